// Parsers of the values of settings, one per kind of value. Each takes what a flag, an environment variable or YAML
// gives, and returns a typed value or a `Refused` with reason and fix. settings.ts puts them into its table.
// Invariant: an accepted value can be used without another check (docs/decisions/0055). The decoders of other members
// accept each accepted name and address in our records, each accepted port is in the range that can be bound, and the
// kernel accepts each device name.
import { createHash } from 'node:crypto'
import { isIP } from 'node:net'
import * as z from 'zod'
import { cidrToPrefix, familyOf, hostCidr, parseCidr, parseIp } from '../../core/model/cidr.ts'
import { isDnsLabel, isDnsSubdomain } from '../../core/model/dns-name.ts'
import { parseSelector } from '../../core/kube/label-selector.ts'
import { isZoneName } from '../../core/model/topology.ts'
import type { Cidr, Ip } from '../../core/model/values.ts'
import { isPort, notOneHost, splitHostPort } from './host-port.ts'
import { FIX, Refused } from './refused.ts'

/** Makes a zod schema of a parser. A refusal becomes an issue of zod, with the fix in its `params`. */
function value<T>(parse: (value: unknown) => T | Refused): z.ZodType<T> {
  return z.unknown().transform((given, context): T => {
    const parsed = parse(given)
    if (!(parsed instanceof Refused)) return parsed
    context.addIssue({ code: 'custom', message: parsed.reason, params: { [FIX]: parsed.fix } })
    return z.NEVER
  })
}

// ------------------------------------------------------------------ text

/**
 * Returns a text without the white space around it. Control characters are refused. So are numbers and booleans of
 * YAML, because YAML changes them before they arrive here: it reads 0123 as 123, for example.
 */
function textOf(given: unknown): string | Refused {
  if (typeof given === 'string') {
    // oxlint-disable-next-line no-control-regex
    if (/[\u0000-\u001f\u007f]/.test(given))
      return new Refused('it has control characters', 'remove them; a line break at its end, for one')
    return given.trim()
  }
  if (given === null) return new Refused('it has no value', 'give it one, or remove the key')
  if (typeof given === 'number' || typeof given === 'boolean')
    return new Refused(`YAML reads ${String(given)} as a ${typeof given}, not as text`, 'put it in quotes')
  return new Refused(
    `it is a ${Array.isArray(given) ? 'list' : 'mapping'}, not text`,
    'give it one text value'
  )
}

/** Schema of a setting that has one text value. `parse` gets the text without white space around it. */
export function text<T>(parse: (text: string) => T | Refused): z.ZodType<T> {
  return value((given) => {
    const found = textOf(given)
    return found instanceof Refused ? found : parse(found)
  })
}

/**
 * Schema of a setting that has the word "off". A boolean false means it, because YAML 1.1, in which the values of a Helm
 * chart are written, reads the word off as false.
 */
export function orOff<T>(schema: z.ZodType<T>): z.ZodType<T> {
  return z.preprocess((given) => (given === false ? 'off' : given), schema)
}

/** Schema as `text`, for a setting that can be empty: '' is accepted without a call of `parse` and stays ''. */
export function optional(parse: (text: string) => string | Refused): z.ZodType<string> {
  return text((found) => (found === '' ? '' : parse(found)))
}

/**
 * Schema of one word of `choices`, in upper or lower case. A boolean true means "on" and false "off", because YAML 1.1
 * reads the words on and off as booleans.
 */
export function choice<const T extends readonly string[]>(choices: T): z.ZodType<T[number]> {
  return value((given) => {
    const found = textOf(typeof given === 'boolean' ? (given ? 'on' : 'off') : given)
    if (found instanceof Refused) return found
    const chosen = choices.find((each) => each === found.toLowerCase())
    return chosen ?? new Refused('it is not one of the choices', `use one of ${choices.join(', ')}`)
  })
}

/**
 * Schema of a list with at most `max` items: a YAML list, or a text with commas between the items. Empty items of a
 * text are dropped, and so is the second of two items whose parsed values are equal. One refused item refuses the whole
 * list, and the reason quotes the item.
 */
export function list<T>(parse: (text: string) => T | Refused, max: number): z.ZodType<readonly T[]> {
  return value((given) => {
    const items = itemsOf(given)
    if (items instanceof Refused) return items
    if (items.length > max) return new Refused(`it has ${items.length} items`, `use at most ${max}`)
    const result: T[] = []
    for (const item of items) {
      const found = textOf(item)
      const parsed = found instanceof Refused ? found : parse(found)
      if (parsed instanceof Refused)
        return new Refused(`${JSON.stringify(item)}${continued(parsed.reason)}`, parsed.fix)
      result.push(parsed)
    }
    return [...new Map(result.map((each) => [JSON.stringify(each), each])).values()]
  })
}

/**
 * Schema of a list, or of `word` alone, as in "off" or "none". The result is the word itself, not a list that holds it.
 * The word beside other items is refused, since it contradicts them.
 */
export function listOr<T, const W extends string>(
  word: W,
  parse: (text: string) => T | Refused,
  max: number
): z.ZodType<readonly T[] | W> {
  const items = list<T | W>((item) => (item === word ? word : parse(item)), max)
  return items.transform((found, context): readonly T[] | W => {
    if (!found.includes(word)) return found as readonly T[]
    if (found.length === 1) return word
    context.addIssue({
      code: 'custom',
      message: `${word} stands beside other items`,
      params: { [FIX]: `use ${word} alone, or leave it out` }
    })
    return z.NEVER
  })
}

/** The items of a YAML list as they are, or the parts of a text between its commas. */
function itemsOf(given: unknown): readonly unknown[] | Refused {
  if (Array.isArray(given)) return given
  const found = textOf(given)
  if (found instanceof Refused) return found
  return found
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
}

/**
 * Returns a reason as the end of a sentence that begins with the item: "it is not a port" becomes " is not a port". A
 * reason with another subject stands behind a colon.
 */
function continued(reason: string): string {
  return reason.startsWith('it ') ? reason.slice('it'.length) : `: ${reason}`
}

/** Parses a prefix such as 192.0.2.0/24. An address alone becomes a prefix of its whole length, /32 or /128. */
export function clientPrefix(text: string): Cidr | Refused {
  const ip = parseIp(text)
  const parsed = parseCidr(ip === undefined ? text : hostCidr(ip))
  return parsed.kind === 'cidr'
    ? parsed.cidr
    : new Refused(parsed.reason, 'use an address or a prefix, as in 192.0.2.0/24')
}

/** Parses the prefix of the addresses of balanced services: large enough for some hundred services, never all addresses. */
export function balancePrefix(text: string): Cidr | Refused {
  const parsed = parseCidr(text)
  const fix = 'use an unused prefix from /8 to /24, as in 240.240.0.0/16, or an IPv6 prefix from /16 to /112'
  if (parsed.kind !== 'cidr') return new Refused(parsed.reason, fix)
  const { length } = cidrToPrefix(parsed.cidr)
  const [min, max] = familyOf(parsed.cidr) === 4 ? [8, 24] : [16, 112]
  return length >= min && length <= max
    ? parsed.cidr
    : new Refused(`it has the length /${length}, which is not from /${min} to /${max}`, fix)
}

// ------------------------------------------------------------------ numbers

/** Schema of a whole number from `min` to `max`, as a number of YAML or as one to ten decimal digits. */
export function integer({ min, max }: { readonly min: number; readonly max: number }): z.ZodType<number> {
  return value((given) => {
    const number = typeof given === 'string' && /^\s*\d{1,10}\s*$/.test(given) ? Number(given) : given
    if (typeof number === 'number' && Number.isInteger(number) && number >= min && number <= max)
      return number
    return new Refused(`it is not a whole number from ${min} to ${max}`, `use one from ${min} to ${max}`)
  })
}

const UNIT_SECONDS: Readonly<Record<string, number>> = { ms: 0.001, s: 1, m: 60, h: 3600 }

/**
 * Schema of a duration from 0 to `max` seconds; the result is in seconds. It accepts a number, or a number with the
 * unit ms, s, m or h, as in 500ms, 30s, 2m, 1h; without a unit the number counts seconds. `whole`: fractions of a
 * second are refused.
 */
export function seconds({
  max,
  whole
}: {
  readonly max: number
  readonly whole: boolean
}): z.ZodType<number> {
  return value((given) => {
    const match = /^\s*(\d{1,10}(?:\.\d{1,6})?)\s*(ms|s|m|h)?\s*$/.exec(
      typeof given === 'number' ? String(given) : typeof given === 'string' ? given : ''
    )
    const found = match === null ? undefined : Number(match[1]) * (UNIT_SECONDS[match[2] ?? 's'] ?? 1)
    if (found !== undefined && found <= max && (!whole || Number.isInteger(found))) return found
    return new Refused(
      `it is not a ${whole ? 'whole number of seconds' : 'number of seconds'} from 0 to ${max}`,
      'use seconds, as in 30, or a unit, as in 30s or 2m'
    )
  })
}

// ------------------------------------------------------------------ names and paths

/**
 * Parses a path of a file or folder. It is relative to the working directory when it has no leading slash. Whether the
 * path exists is not checked here.
 */
export function path(found: string): string | Refused {
  return found === '' ? new Refused('it is empty', 'give it a path, or leave the setting out') : found
}

// sun_path of unix(7) has 108 bytes, and the last one is a zero. Four of the other 107 are for ".new": admin/socket.ts
// binds the socket under this longer name and then renames it.
const SOCKET_BYTES_MAX = 103

/** Parses the path of the admin socket: at most 103 bytes of UTF-8, and no slash at the end. */
export function socketPath(found: string): string | Refused {
  const bytes = Buffer.byteLength(found)
  if (bytes > SOCKET_BYTES_MAX)
    return new Refused(
      `a socket's path has at most ${SOCKET_BYTES_MAX} bytes, this one has ${bytes}`,
      'use a shorter path'
    )
  if (found.endsWith('/'))
    return new Refused('it ends in a slash', 'name a file, as in /run/rhizome/meshd.sock')
  return path(found)
}

// IFNAMSIZ is 16 with the final zero, so a name has 15 characters at most. A dot would be read as another level in the
// sysctl name net.ipv4.conf.<device>. `all` and `default` are entries of that sysctl folder, and `lo` is the loopback
// device.
const DEVICE = /^[a-z][a-z0-9_-]{0,14}$/
const DEVICES_TAKEN = new Set(['all', 'default', 'lo'])

/** Parses the name of the tunnel interface that the agent creates. */
export function device(found: string): string | Refused {
  if (DEVICE.test(found) && !DEVICES_TAKEN.has(found)) return found
  return new Refused(
    'it is not a name for a tunnel interface',
    'use at most 15 of a-z 0-9 _ -, a letter first and no dot, as in rhizome0'
  )
}

/** Parses an RFC 1123 label in lower case, the form of the names of namespaces. */
export function dnsLabel(found: string): string | Refused {
  if (isDnsLabel(found)) return found
  return new Refused('it is not a DNS label', 'use at most 63 of a-z 0-9 -, a letter or digit first and last')
}

/** Parses a domain such as cluster.local. A final dot is dropped. */
export function domain(found: string): string | Refused {
  const name = found.replace(/\.$/, '')
  if (isDnsSubdomain(name)) return name
  return new Refused('it is not a DNS name', 'use labels of a-z 0-9 - joined by dots')
}

/**
 * Parses a node name: an RFC 1123 subdomain in lower case of at most 253 characters, since the decoders of other
 * members refuse any other name. The fix proposes a name that is accepted.
 */
export function nodeName(found: string): string | Refused {
  if (isDnsSubdomain(found)) return found
  return new Refused(
    'other members refuse a node name that is not a DNS name in lower case',
    `use ${nodeNameOf(found)}`
  )
}

/** Parses the name of a zone, which is compared with endpoints[].zone of EndpointSlices. */
export function zoneName(found: string): string | Refused {
  if (isZoneName(found)) return found
  return new Refused(
    'it is no name of a zone',
    'use at most 63 letters, digits, -, _ and ., a letter or digit first and last'
  )
}

const NODE_NAME_CHARACTERS_MAX = 253
const LABEL_CHARACTERS_MAX = 63

/**
 * Makes a node name from any host name; the result depends on the host name only. Letters become lower case and lose
 * their accents, other characters become "-", labels are cut to 63 characters, and labels at the end are dropped until
 * 253 are left. A host name without any usable character gives node-<8 hex digits of its SHA-256>, so that two such
 * hosts still differ.
 */
export function nodeNameOf(hostName: string): string {
  const labels = hostName
    .normalize('NFKD')
    .replaceAll(/\p{M}/gu, '') // accents, which NFKD separates from their letters
    .toLowerCase()
    .split('.')
    .map((label) =>
      label
        .replaceAll(/[^a-z0-9]+/g, '-')
        .replace(/^-+/, '')
        .slice(0, LABEL_CHARACTERS_MAX)
        .replace(/-+$/, '')
    )
    .filter((label) => label !== '')
  while (labels.length > 1 && labels.join('.').length > NODE_NAME_CHARACTERS_MAX) labels.pop()
  if (labels.length > 0) return labels.join('.')
  return hostName === '' ? 'node' : `node-${createHash('sha256').update(hostName).digest('hex').slice(0, 8)}`
}

/** Checks a Kubernetes label selector and returns its text; sources/source.ts parses it again for the export policy. */
export function selector(found: string): string | Refused {
  const parsed = parseSelector(found)
  return parsed.kind === 'invalid'
    ? new Refused(parsed.reason, 'write it like "team=shop,tier in (web,api)"')
    : found
}

// ------------------------------------------------------------------ addresses

/**
 * Parses an address of this host, which other members learn from its record; '' means that the agent looks for one
 * itself.
 */
export function ownAddress(found: string): Ip | '' | Refused {
  if (found === '') return ''
  const ip = parseIp(found)
  if (ip !== undefined) return notOneHost(ip) ?? ip
  const bare = parseIp(found.replace(/\/\d+$/, ''))
  return bare === undefined
    ? new Refused('it is not an IPv4 or IPv6 address', 'use one such as 10.2.0.1 or fd00:2::1')
    : new Refused('it is a prefix, not an address', `use ${bare}`)
}

/**
 * Parses a DNS server: an address of one host, with or without a port. The result has a port only if the text has one;
 * `defaultPort` is used in the fix only. Names are refused.
 */
export function serverAddress(found: string, defaultPort: number): string | Refused {
  const example = `use 10.0.0.2, 10.0.0.2:${defaultPort} or [fd00::2]:${defaultPort}`
  const split = splitHostPort(found)
  if (split === undefined || isIP(split.host) === 0)
    return new Refused('it is not an address with or without a port', example)
  const ip = parseIp(split.host)
  const refused = ip === undefined ? undefined : notOneHost(ip)
  if (refused !== undefined) return refused
  if (split.port !== undefined && !isPort(split.port))
    return new Refused(`${split.port} is not a port from 1 to 65535`, example)
  if (split.port === undefined) return split.host
  return split.host.includes(':') ? `[${split.host}]:${split.port}` : `${split.host}:${split.port}`
}
