// Reads fields of an object of unknown shape, such as a Kubernetes object from a YAML file. The first fault is kept,
// and every reader returns a harmless value after it. So a caller reads all fields straight through and checks once,
// at the end, whether a fault was found.
import { parseIp } from './cidr.ts'
import type { Ip } from './values.ts'

/** Why an object is refused: the field, a message that names it, and what to change. */
export interface Fault {
  /** The path of the field: "spec.ports[1].port". */
  readonly where: string
  readonly message: string
  readonly fix: string
  /** Absent: an error. */
  readonly level?: 'error' | 'warning'
}

/** A mapping whose values are not checked yet. */
export type Fields = Readonly<Record<string, unknown>>

/**
 * Each reader takes the value and `where`, the path of its field for messages. Nothing throws: after a fault the
 * return value is the default of that reader, and `fault` is set.
 */
export class FieldCheck {
  /** The first fault; undefined while everything read so far was valid. */
  fault: Fault | undefined

  /** Records a fault that the caller found itself. Only the first one is kept. */
  fail(fault: Fault): void {
    this.fault ??= fault
  }

  /** A mapping; {} when the field is absent or null. */
  fields(value: unknown, where: string): Fields {
    if (isAbsent(value)) return {}
    if (isFields(value)) return value
    this.fail({ where, message: `${where} is ${kindOf(value)}`, fix: `make ${where} a mapping` })
    return {}
  }

  /** A list of at most `max` items; [] when the field is absent, null or too long. */
  list(value: unknown, where: string, max: number): readonly unknown[] {
    if (isAbsent(value)) return []
    if (!Array.isArray(value)) {
      this.fail({ where, message: `${where} is ${kindOf(value)}`, fix: `make ${where} a list` })
      return []
    }
    if (value.length <= max) return value
    this.fail({
      where,
      message: `${where} has ${value.length} items, more than ${max}`,
      fix: `split it: at most ${max} items`
    })
    return []
  }

  /**
   * A text of at most `max` characters, 253 by default as in Kubernetes names; '' when the field is absent or null.
   */
  text(value: unknown, where: string, max = 253): string {
    if (isAbsent(value)) return ''
    if (typeof value !== 'string') {
      this.fail({ where, message: `${where} is ${kindOf(value)}, not text`, fix: `put the value in quotes` })
      return ''
    }
    if (value.length <= max) return value
    this.fail({ where, message: `${where} is longer than ${max} characters`, fix: 'shorten it' })
    return ''
  }

  /** One of `allowed`; the fallback when the field is absent or ''. */
  choice<T extends string>(value: unknown, where: string, allowed: readonly T[], fallback: T): T {
    const text = this.text(value, where)
    if (text === '') return fallback
    const found = allowed.find((choice) => choice === text)
    if (found === undefined) {
      this.fail({ where, message: `${where} is ${quote(text)}`, fix: `use one of ${allowed.join(', ')}` })
    }
    return found ?? fallback
  }

  /** An integer from `min` to `max`. When the field is absent: the fallback, or a fault where there is none. */
  integer(
    value: unknown,
    where: string,
    limits: { readonly min: number; readonly max: number; readonly fallback?: number }
  ): number {
    if (isAbsent(value) && limits.fallback !== undefined) return limits.fallback
    if (typeof value === 'number' && Number.isInteger(value) && value >= limits.min && value <= limits.max) {
      return value
    }
    const shown = isAbsent(value)
      ? 'missing'
      : typeof value === 'number'
        ? `${value}`
        : `${kindOf(value)}, not a number`
    this.fail({
      where,
      message: `${where} is ${shown}`,
      fix: `use an integer from ${limits.min} to ${limits.max}`
    })
    return limits.min
  }

  /** A boolean; the fallback when the field is absent. */
  flag(value: unknown, where: string, fallback: boolean): boolean {
    if (isAbsent(value)) return fallback
    if (typeof value === 'boolean') return value
    this.fail({ where, message: `${where} is ${kindOf(value)}`, fix: 'use true or false' })
    return fallback
  }

  /**
   * An RFC 1123 label of at most 63 characters, the form of every name that ends up in DNS; '' when the field is
   * absent.
   */
  label(value: unknown, where: string): string {
    const text = this.text(value, where, 63)
    if (text === '' || LABEL.test(text)) return text
    this.fail({
      where,
      message: `${where} ${quote(text)} is not a DNS label`,
      fix: 'use lower-case letters, digits and "-" only, starting and ending with a letter or digit'
    })
    return ''
  }

  /**
   * A name as Kubernetes takes it for nodes and EndpointSlices: at most 253 characters, where labels may be longer
   * than 63; '' when absent.
   */
  objectName(value: unknown, where: string): string {
    const text = this.text(value, where)
    if (text === '' || text.split('.').every((part) => LABEL.test(part))) return text
    this.fail({
      where,
      message: `${where} ${quote(text)} is not a name of a Kubernetes object`,
      fix: 'use lower-case letters, digits, "-" and ".", starting and ending with a letter or digit'
    })
    return ''
  }

  /** RFC 1123 labels joined by dots, at most 253 characters; '' when the field is absent. */
  domain(value: unknown, where: string): string {
    const text = this.text(value, where)
    if (text === '' || text.split('.').every((part) => part.length <= 63 && LABEL.test(part))) return text
    this.fail({
      where,
      message: `${where} ${quote(text)} is not a DNS name`,
      fix: 'use lower-case labels of letters, digits and "-", joined by dots'
    })
    return ''
  }

  /** An address in canonical form; undefined only after a fault. An absent field is a fault. */
  ip(value: unknown, where: string): Ip | undefined {
    const text = this.text(value, where)
    const ip = parseIp(text)
    if (ip === undefined) {
      this.fail({
        where,
        message: `${where} ${quote(text)} is not an IP address`,
        fix: 'write it like 10.1.0.11 or fd00::11'
      })
    }
    return ip
  }

  /** The value itself; '' is a fault. Wrap the other readers in it for fields that must be set. */
  required(value: string, where: string): string {
    if (value === '') this.fail({ where, message: `${where} is missing`, fix: `set ${where}` })
    return value
  }
}

/** Whether a value is a mapping: an object that is neither null nor a list. */
export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The text in quotes for a message, cut to 60 characters however long it was. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text)
}

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/

function isAbsent(value: unknown): value is undefined | null {
  return value === undefined || value === null
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'a list'
  return typeof value === 'object' ? 'a mapping' : `a ${typeof value}`
}
