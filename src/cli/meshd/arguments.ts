// The values of flags and arguments, checked before meshctl sends anything. Each error is a CliError BAD_ARGUMENT (exit
// code 2) that names its flag and the fix. meshd checks the same values again, because any program may write to its
// socket.
import { parseCidr } from '../../core/model/cidr.ts'
import { clusterZone, RESERVED_CLUSTER_NAMES } from '../../core/model/zones.ts'
import { badArgument } from '../output/errors.ts'
import { clean } from '../output/text.ts'

/**
 * Returns `text` if it is a cluster name: a DNS label of RFC 1123 in lower case. "all" and "local" are refused, because
 * cluster.all has the services of all clusters and cluster.local is Kubernetes' own zone. `what` names the flag or
 * argument.
 */
export function parseClusterName(what: string, text: string): string {
  const shown = quote(text)
  if (RESERVED_CLUSTER_NAMES.has(text)) {
    throw badArgument(
      what,
      `${shown} is reserved: ${clusterZone(text)} has a meaning of its own`,
      'choose another name'
    )
  }
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(text)) {
    throw badArgument(
      what,
      `${shown} is not a cluster name`,
      'use a DNS label: at most 63 of a-z 0-9 -, a letter or digit first and last, as in "west" or "eu-1"'
    )
  }
  return text
}

/**
 * Returns a parser for commander of a flag that may be repeated and whose value may be a list with commas. The result
 * has each part once, in the order given. `check` gets each part without the white space around it, and throws if it is
 * wrong.
 */
export function collect(
  flag: string,
  check: (flag: string, part: string) => string
): (text: string, before: readonly string[] | undefined) => string[] {
  return (text, before = []) => [
    ...new Set([...before, ...text.split(',').map((part) => check(flag, part.trim()))])
  ]
}

/** Returns an IPv4 or IPv6 prefix in canonical form, such as 10.1.0.0/16. A prefix with host bits set is refused. */
export function parsePrefix(flag: string, text: string): string {
  const parsed = parseCidr(text)
  if (parsed.kind === 'cidr') return parsed.cidr
  throw badArgument(
    flag,
    clean(parsed.reason),
    'use prefixes such as 10.1.0.0/16 or fd00:1::/48, several with commas or by repeating the flag'
  )
}

/**
 * Returns a key, or its beginning, in lower case: `min` to 64 hexadecimal digits. `where` ends the fix: how the key is
 * found out.
 */
export function parseKey(
  what: string,
  text: string,
  { min, where }: { readonly min: number; readonly where: string }
): string {
  const key = text.trim().toLowerCase()
  if (new RegExp(`^[0-9a-f]{${min},64}$`).test(key)) return key
  const form =
    min === 64
      ? 'a key, which has 64 hexadecimal digits'
      : `a key or its beginning, ${min} to 64 hexadecimal digits`
  throw badArgument(what, `${quote(text)} is not ${form}`, where)
}

/**
 * Returns the seconds of a time such as "30m", "24h", "1h30m" or "7d"; at least 1. The units d, h, m and s must stand
 * in this order. A number without a unit is refused, because a user may mean seconds or minutes by it.
 */
export function parseSeconds(flag: string, text: string): number {
  const match = /^(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?$/.exec(text)
  const [days, hours, minutes, seconds] = (match?.slice(1) ?? []).map((part) => Number(part ?? 0))
  const total = (days ?? 0) * 86_400 + (hours ?? 0) * 3600 + (minutes ?? 0) * 60 + (seconds ?? 0)
  if (total > 0) return total
  const fix =
    /^\d+$/.test(text) && Number(text) > 0
      ? `add a unit: ${text}s, ${text}m or ${text}h`
      : 'use a time such as 30s, 15m, 24h or 7d'
  throw badArgument(flag, `${quote(text)} is not a time above zero`, fix)
}

/** Returns the seconds between two frames of --watch: 0.2 to 3600, with at most three decimals. */
export function parseInterval(text: string): number {
  const seconds = Number(text)
  if (/^\d{1,5}(\.\d{1,3})?$/.test(text) && seconds >= WATCH_SECONDS_MIN && seconds <= 3600) return seconds
  throw badArgument(
    '--watch',
    `${quote(text)} is not a number of seconds from ${WATCH_SECONDS_MIN} to 3600`,
    'use --watch, which means every 2 seconds, or a number, as in --watch 5'
  )
}

/**
 * Returns a value of the command line for an error message: in quotes, cleaned (text.ts), at most 80 characters long.
 */
export function quote(text: string): string {
  return `"${clean(text.length > QUOTE_MAX ? `${text.slice(0, QUOTE_MAX)}…` : text)}"`
}

// A shorter interval would load the agent, and a person could not read faster.
const WATCH_SECONDS_MIN = 0.2
// Characters of a quoted value. The error message stays readable when the value is a whole file by mistake.
const QUOTE_MAX = 80

/** The filter of rows by the flag --cluster; without it every row is meant. */
export function ofCluster(
  cluster: string | undefined
): (row: { readonly cluster?: string | undefined }) => boolean {
  return (row) => cluster === undefined || row.cluster === cluster
}
