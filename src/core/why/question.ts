// What a person asks `meshctl why` about: the name or the address that a program connects to, as it stands in the
// program's settings, with its port.
import { parseIp } from '../model/cidr.ts'
import type { Ip, Protocol } from '../model/values.ts'

/** A question, parsed. `port` and `protocol` are left out where the text does not name them. */
export type Asked = Target & { readonly port?: number; readonly protocol?: Protocol }

/** A name in lower case without a final dot, or an address in its canonical form. */
type Target = { readonly kind: 'name'; readonly name: string } | { readonly kind: 'address'; readonly ip: Ip }

type Parsed = Asked | { readonly kind: 'invalid'; readonly reason: string }

const PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const
/** Ports of the schemes that people paste with a URL (RFC 9110, 4.2). */
const SCHEMES: Readonly<Record<string, number>> = { http: 80, https: 443 }
const TEXT_CHARACTERS_MAX = 2000
// RFC 1035, 2.3.4: 253 characters of text; labels of 63. Underscores are in SRV names (RFC 2782).
const NAME = /^(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*$/i

/**
 * Parses "web.shop.svc.cluster.east:80", "10.102.0.10:53/udp", "[fd00::1]:443", a bare name or address, or a URL, whose
 * path is left out. A protocol without a port is invalid. The reason of an invalid text is a clause for people.
 */
export function parseAsked(text: string): Parsed {
  if (text.length > TEXT_CHARACTERS_MAX) return invalid(`it has more than ${TEXT_CHARACTERS_MAX} characters`)
  const { rest, port: ofScheme } = withoutScheme(text.trim())
  const bare = targetOf(rest)
  if (bare !== undefined) return { ...bare, ...ofScheme }
  const [, place = '', digits = '', word] = /^(.*):(\d{1,5})(?:\/([a-z]+))?$/i.exec(rest) ?? []
  const target = targetOf(/^\[(.*)\]$/.exec(place)?.[1] ?? place)
  if (target === undefined) return invalid(`${JSON.stringify(rest)} is no name and no address`)
  const port = Number(digits)
  if (port < 1 || port > 65_535) return invalid(`port ${digits} is not between 1 and 65535`)
  const protocol = PROTOCOLS.find((known) => known === word?.toUpperCase())
  if (word !== undefined && protocol === undefined)
    return invalid(`${JSON.stringify(word)} is no protocol: write tcp, udp or sctp`)
  return { ...target, port, ...(protocol === undefined ? {} : { protocol }) }
}

function invalid(reason: string): Parsed {
  return { kind: 'invalid', reason }
}

/** An IPv6 address stands in brackets before a port (RFC 3986, 3.2.2), and may also stand in them alone. */
function targetOf(text: string): Target | undefined {
  const ip = parseIp(/^\[(.*)\]$/.exec(text)?.[1] ?? text)
  if (ip !== undefined) return { kind: 'address', ip }
  const name = text.replace(/\.$/, '').toLowerCase()
  // "10.1.2" and "300.1.1.1" are mistyped addresses: no name of a service ends in a number.
  return NAME.test(name) && !/(^|\.)\d+$/.test(name) ? { kind: 'name', name } : undefined
}

/** Takes a URL apart (RFC 3986, 3): its authority without user information, and the port of its scheme if it is known. */
function withoutScheme(text: string): { readonly rest: string; readonly port?: { readonly port: number } } {
  const [, scheme, authority] = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)/i.exec(text) ?? []
  if (scheme === undefined || authority === undefined) return { rest: text }
  const port = SCHEMES[scheme.toLowerCase()]
  return { rest: authority.replace(/^.*@/, ''), ...(port === undefined ? {} : { port: { port } }) }
}
