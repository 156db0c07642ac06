import { useWatched } from "../../parts/live.ts";
import classes from "./overview.module.css";

/** Says that the page updates by itself, or that it rests because nobody has touched it for a while. */
export function Live() {
  const watched = useWatched();
  return (
    <span className={classes.live} data-resting={!watched}>
      <span className={classes.dot} aria-hidden />
      {watched ? "Live" : "Paused: nobody is looking"}
    </span>
  );
}
