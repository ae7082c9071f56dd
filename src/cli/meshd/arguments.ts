// Values of the command line, checked before anything is sent: each error names its flag and the fix.
import { parseCidr } from '../../core/model/cidr.ts'
import { clusterZone, RESERVED_CLUSTER_NAMES } from '../../core/model/zones.ts'
import { badArgument } from '../output/errors.ts'
import { clean } from '../output/text.ts'

/** An RFC 1123 label that is not reserved as a DNS zone. */
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

/** commander's accumulator for a flag that may be repeated and whose value may be a list; `check` sees each part. */
export function collect(
  flag: string,
  check: (flag: string, part: string) => string
): (text: string, before: readonly string[] | undefined) => string[] {
  return (text, before = []) => [
    ...new Set([...before, ...text.split(',').map((part) => check(flag, part.trim()))])
  ]
}

/** A prefix in canonical form. */
export function parsePrefix(flag: string, text: string): string {
  const parsed = parseCidr(text)
  if (parsed.kind === 'cidr') return parsed.cidr
  throw badArgument(
    flag,
    clean(parsed.reason),
    'use prefixes such as 10.1.0.0/16 or fd00:1::/48, several with commas or by repeating the flag'
  )
}

/** "30m", "24h", "1h30m", "7d" to seconds; at least one. */
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

/** Seconds between two frames of --watch. */
export function parseInterval(text: string): number {
  const seconds = Number(text)
  if (/^\d{1,5}(\.\d{1,3})?$/.test(text) && seconds >= WATCH_SECONDS_MIN && seconds <= 3600) return seconds
  throw badArgument(
    '--watch',
    `${quote(text)} is not a number of seconds from ${WATCH_SECONDS_MIN} to 3600`,
    'use --watch for every 2 seconds, or as in --watch 5'
  )
}

export function quote(text: string): string {
  return `"${clean(text.length > QUOTE_MAX ? `${text.slice(0, QUOTE_MAX)}…` : text)}"`
}

// A shorter interval would load the agent without showing a person more.
const WATCH_SECONDS_MIN = 0.2
const QUOTE_MAX = 80
