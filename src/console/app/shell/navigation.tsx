import { Link } from "@tanstack/react-router";
import { useMe } from "../session/state.ts";
import { destinations } from "./destinations.ts";
import classes from "./shell.module.css";

export function Navigation() {
  const { isStaff } = useMe();
  return (
    <nav className={classes.nav} aria-label="Pages">
      {destinations.map(({ group, items }) => {
        const shown = items.filter((item) => isStaff || item.staffOnly !== true);
        return (
          <div key={group}>
            <div className={classes.group} aria-hidden>
              {group}
            </div>
            <ul>
              {shown.map(({ to, label, icon: Icon }) => (
                <li key={to}>
                  <Link
                    to={to}
                    className={classes.link}
                    activeOptions={{ exact: to === "/", includeSearch: false }}
                  >
                    <Icon size={17} stroke={1.75} aria-hidden />
                    {label}
                  </Link>
                </li>
              ))}
            </ul>
          </div>
        );
      })}
    </nav>
  );
}
