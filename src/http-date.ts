/** The date of an answer. */
let date = "";
let dateOfS = 0;

/** As HTTP writes it. */
export function currentDate(): string {
  const nowS = Math.floor(Date.now() / 1000);
  if (nowS !== dateOfS) {
    dateOfS = nowS;
    date = new Date(nowS * 1000).toUTCString();
  }
  return date;
}
