// The place of a problem, as operators read it before the message: in the log, in the registry of health and in
// `meshctl status`.

/**
 * Returns the place without the field at its end when the message begins with the same field: "line 3: spec.ports" and
 * "spec.ports must be a list" would name it twice. [] when there is no place.
 */
export function problemPlace(where: string | undefined, message: string): readonly string[] {
  if (where === undefined) return []
  const [, before, field] = /^(.*): ([^ :]+)$/.exec(where) ?? []
  return [before !== undefined && message.startsWith(`${field} `) ? before : where]
}
