/** Chooses the methods that a key may call, out of those that are mounted, by method or by service. */
import { Checkbox, Pill, ScrollArea, Text } from "@mantine/core";
import { useState } from "react";
import { AccessLevel } from "../../../../gen/latchkey/v1/access_pb.js";
import type { ServiceDescription } from "../../../../gen/latchkey/v1/server_service_pb.js";
import { Badge } from "../badge.tsx";
import { SearchField } from "../search-field.tsx";
import { useMethods } from "../use-methods.ts";
import { accessWords } from "../words.ts";
import { CustomPattern } from "./custom-pattern.tsx";
import classes from "./method-picker.module.css";
import { covers, withPattern } from "./patterns.ts";

interface MethodPickerProps {
  /** Patterns; see patterns.ts. */
  readonly value: readonly string[];
  readonly onChange: (patterns: string[]) => void;
}

export function MethodPicker({ value, onChange }: MethodPickerProps) {
  const { data } = useMethods();
  const [search, setSearch] = useState<string>();
  const services = matching(data?.services ?? [], search?.toLowerCase() ?? "");
  const known = new Set(
    (data?.services ?? []).flatMap((service) => [
      `${service.name}/*`,
      ...service.methods.map((method) => `${service.name}/${method.name}`),
    ]),
  );
  const others = data === undefined ? [] : value.filter((pattern) => !known.has(pattern));

  const toggle = (pattern: string, on: boolean) =>
    onChange(on ? withPattern(value, pattern) : value.filter((each) => each !== pattern));

  return (
    <div className={classes.picker}>
      <SearchField label="Search methods" value={search} onChange={setSearch} className={classes.search} />
      <ScrollArea.Autosize mah={340} type="auto" viewportProps={{ tabIndex: -1 }}>
        {services.map((service) => (
          <Service key={service.name} service={service} value={value} toggle={toggle} />
        ))}
        {data !== undefined && services.length === 0 && (
          <Text size="sm" c="dimmed" p="md">
            No method of this server matches. A method of another server can be added as a pattern below.
          </Text>
        )}
      </ScrollArea.Autosize>
      <div className={classes.custom}>
        {others.length > 0 && (
          <Pill.Group mb="xs">
            {others.map((pattern) => (
              <Pill
                key={pattern}
                withRemoveButton
                onRemove={() => toggle(pattern, false)}
                removeButtonProps={{ "aria-label": `Remove ${pattern}`, tabIndex: 0, "aria-hidden": false }}
              >
                <span className="mono">{pattern}</span>
              </Pill>
            ))}
          </Pill.Group>
        )}
        <CustomPattern onAdd={(pattern) => toggle(pattern, true)} />
      </div>
    </div>
  );
}

/** Who may call. Beside a box "Optional" would be the box. */
function callers(access: AccessLevel): string {
  const isOpen = access === AccessLevel.PUBLIC || access === AccessLevel.OPTIONAL;
  return isOpen ? "Anyone" : accessWords[access];
}

function matching(services: readonly ServiceDescription[], search: string): ServiceDescription[] {
  return services
    .map((service) => ({
      ...service,
      methods: service.methods.filter(({ name }) => `${service.name}/${name}`.toLowerCase().includes(search)),
    }))
    .filter(({ methods }) => methods.length > 0);
}

interface ServiceProps {
  readonly service: ServiceDescription;
  readonly value: readonly string[];
  readonly toggle: (pattern: string, on: boolean) => void;
}

function Service({ service, value, toggle }: ServiceProps) {
  const whole = `${service.name}/*`;
  const covered = value.some((pattern) => pattern !== whole && covers(pattern, whole));
  const all = covered || value.includes(whole);
  const some = value.some((pattern) => covers(whole, pattern));
  return (
    <fieldset className={classes.service}>
      <legend className="visually-hidden">{service.name}</legend>
      <Checkbox
        className={classes.head ?? ""}
        label={<span className="mono">{service.name}</span>}
        aria-label={`All methods of ${service.name}`}
        size="xs"
        checked={all}
        indeterminate={some && !all}
        disabled={covered}
        onChange={({ currentTarget }) => toggle(whole, currentTarget.checked)}
      />
      {service.methods.map((method) => {
        const name = `${service.name}/${method.name}`;
        const byOther = value.some((pattern) => pattern !== name && covers(pattern, name));
        return (
          <div key={method.name} className={classes.method}>
            <Checkbox
              size="xs"
              label={<span className="mono">{method.name}</span>}
              aria-label={name}
              checked={byOther || value.includes(name)}
              disabled={byOther}
              onChange={({ currentTarget }) => toggle(name, currentTarget.checked)}
            />
            <Badge>{callers(method.access)}</Badge>
          </div>
        );
      })}
    </fieldset>
  );
}
