// The checks of single fields of a record, for value-codec.ts: each returns the value, or throws InvalidField with a sentence that
// names the field.
import { isDnsLabel, isDnsSubdomain } from '../model/dns-name.ts'

/** The first invalid field of a value. Only value-codec.ts catches it. */
export class InvalidField extends Error {}

/**
 * Whether Kubernetes accepts a text as the name of a node or an EndpointSlice: a subdomain whose labels may be longer
 * than 63 characters. The slices of a Service with a name of 63 characters have names of 69.
 */
function isObjectName(text: string): boolean {
  return text.length <= 253 && OBJECT_NAME.test(text)
}

const OBJECT_NAME = /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/

export function portName(text: string): string {
  return text === '' ? '' : label('port name', text)
}

export function label(field: string, text: string): string {
  if (!isDnsLabel(text)) throw new InvalidField(`${field} is not a DNS label`)
  return text
}

function subdomain(field: string, text: string): string {
  if (!isDnsSubdomain(text)) throw new InvalidField(`${field} is not a DNS name`)
  return text
}

export function objectName(field: string, text: string): string {
  if (!isObjectName(text)) throw new InvalidField(`${field} is not a name of a Kubernetes object`)
  return text
}

/** A DNS name; the text is returned with its final dot, which Kubernetes allows. */
export function externalName(text: string): string {
  subdomain('externalName', text.replace(/\.$/, ''))
  return text
}

export function matching(field: string, text: string, pattern: RegExp): string {
  if (!pattern.test(text))
    throw new InvalidField(`${field} is too long or has characters that are not allowed`)
  return text
}

/** The value, or InvalidField where a parser returned undefined. */
export function present<T>(field: string, value: T | undefined): T {
  if (value === undefined) throw new InvalidField(`${field} is malformed`)
  return value
}

export function bounded<T>(field: string, items: readonly T[], max: number): readonly T[] {
  if (items.length > max)
    throw new InvalidField(`${field} has ${items.length} items, above the limit of ${max}`)
  return items
}

/** Throws InvalidField when two items have the same key. `what` names the key in the message. */
export function unique<T>(
  field: string,
  items: readonly T[],
  { key, what }: { readonly key: (item: T) => string; readonly what: string }
): void {
  if (new Set(items.map(key)).size !== items.length)
    throw new InvalidField(`two items of ${field} have the same ${what}`)
}
