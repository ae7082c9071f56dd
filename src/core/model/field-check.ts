// Reading fields of an object of unknown shape. The first fault is kept and every reader returns a harmless value after
// it, so that a caller reads straight through and asks once, at the end, whether all was well.
import { parseIp } from './cidr.ts'
import type { Ip } from './values.ts'

export interface Fault {
  /** "spec.ports[1].port" */
  readonly where: string
  readonly message: string
  readonly fix: string
}

export type Fields = Readonly<Record<string, unknown>>

export class FieldCheck {
  fault: Fault | undefined

  fail(fault: Fault): void {
    this.fault ??= fault
  }

  /** A mapping; {} when absent. */
  fields(value: unknown, where: string): Fields {
    if (isAbsent(value)) return {}
    if (isFields(value)) return value
    this.fail({ where, message: `${where} is ${kindOf(value)}`, fix: `make ${where} a mapping` })
    return {}
  }

  /** A list of at most `max` items; [] when absent. */
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

  /** '' when absent. */
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

  /** One of `allowed`; the fallback when absent. */
  choice<T extends string>(value: unknown, where: string, allowed: readonly T[], fallback: T): T {
    const text = this.text(value, where)
    if (text === '') return fallback
    const found = allowed.find((choice) => choice === text)
    if (found === undefined) {
      this.fail({ where, message: `${where} is ${quote(text)}`, fix: `use one of ${allowed.join(', ')}` })
    }
    return found ?? fallback
  }

  /** An integer from `min` to `max`; the fallback, or a fault without one, when absent. */
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

  flag(value: unknown, where: string, fallback: boolean): boolean {
    if (isAbsent(value)) return fallback
    if (typeof value === 'boolean') return value
    this.fail({ where, message: `${where} is ${kindOf(value)}`, fix: 'use true or false' })
    return fallback
  }

  /** An RFC 1123 label, as every name that ends up in DNS is; '' when absent. */
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

  /** A name as Kubernetes takes it for nodes and EndpointSlices, where labels may be longer than in DNS; '' when absent. */
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

  /** RFC 1123 labels joined by dots; '' when absent. */
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

  /** Undefined only after a fault. */
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

  required(value: string, where: string): string {
    if (value === '') this.fail({ where, message: `${where} is missing`, fix: `set ${where}` })
    return value
  }
}

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** For messages: quoted, and short whatever was sent. */
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
