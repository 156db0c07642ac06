// Runs before anything is painted, so that who has chosen the other colours sees no flash.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("latchkey-color-scheme");
  } catch {
    // Storage is switched off: as the system has it.
  }
  const isDark =
    chosen === "dark" || (chosen !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.setAttribute("data-mantine-color-scheme", isDark ? "dark" : "light");
})();
