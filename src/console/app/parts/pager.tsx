/** Goes through the pages of a listing. Which page it is stands in the URL as the server's own page token. */
import { Button, Group } from "@mantine/core";
import { IconChevronLeft, IconChevronRight } from "@tabler/icons-react";
import classes from "./pager.module.css";

interface PagerProps {
  /** The page token in the URL; undefined on the first page. */
  readonly page: string | undefined;
  /** The listing's next_page_token; empty on the last page. */
  readonly next: string | undefined;
  /** What is on this page, e.g. "50 keys". */
  readonly summary: string;
  readonly onPage: (page: string | undefined) => void;
}

/** The page before each one that was gone on to; what a link opened in the middle has none. */
const before = new Map<string, string | undefined>();

export function Pager({ page, next, summary, onPage }: PagerProps) {
  const hasNext = next !== undefined && next !== "";
  return (
    <nav className={classes.pager} aria-label="Pages of the listing">
      <span className="dim num" aria-live="polite">
        {summary}
      </span>
      <Group gap="xs">
        <Button variant="default" size="xs" disabled={page === undefined} onClick={() => onPage(undefined)}>
          First page
        </Button>
        <Button
          variant="default"
          size="xs"
          leftSection={<IconChevronLeft size={14} />}
          disabled={page === undefined || !before.has(page)}
          onClick={() => onPage(page === undefined ? undefined : before.get(page))}
        >
          Previous page
        </Button>
        <Button
          variant="default"
          size="xs"
          rightSection={<IconChevronRight size={14} />}
          disabled={!hasNext}
          onClick={() => {
            if (hasNext) before.set(next, page);
            onPage(next);
          }}
        >
          Next page
        </Button>
      </Group>
    </nav>
  );
}
