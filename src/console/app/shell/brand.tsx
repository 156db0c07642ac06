import { Link } from "@tanstack/react-router";
import icon from "../icon.svg";
import classes from "./shell.module.css";

/** The mark, the name and, since one has several servers, which one this is. */
export function Brand({ compact = false }: { compact?: boolean }) {
  return (
    <Link to="/" className={classes.brand} aria-label="Latchkey, to the overview">
      <img src={icon} alt="" width={28} height={28} />
      <span>
        <span className={classes.name}>Latchkey</span>
        {!compact && <span className={`${classes.host} clip`}>{window.location.host}</span>}
      </span>
    </Link>
  );
}
