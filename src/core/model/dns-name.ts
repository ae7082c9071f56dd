// The form of DNS names in Kubernetes: lower-case labels of RFC 1123. Decoders of records use it before a name goes
// into a zone, a file or a command line.

/** Whether a text is one RFC 1123 label: 1 to 63 lower-case letters, digits and inner hyphens. */
export function isDnsLabel(text: string): boolean {
  return /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/.test(text)
}

/** Whether a text is labels joined by dots, 253 characters at most and without a dot at the end. */
export function isDnsSubdomain(text: string): boolean {
  return text.length <= 253 && text.split('.').every(isDnsLabel)
}
