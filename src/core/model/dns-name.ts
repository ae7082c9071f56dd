// The form of DNS names: RFC 1123 labels, in lower case.

/** RFC 1123 label, lower case, ≤ 63 characters. */
export function isDnsLabel(text: string): boolean {
  return /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/.test(text)
}

/** A name in DNS: labels joined by dots, ≤ 253 characters. */
export function isDnsSubdomain(text: string): boolean {
  return text.length <= 253 && text.split('.').every(isDnsLabel)
}
