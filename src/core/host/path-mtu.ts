// How large a packet may be on the way through a tunnel and back, found with padded probes: a path that drops large packets without an
// ICMP error lets small requests pass and never anything in bulk (RFC 8899, packetization-layer path MTU discovery).
// Invariants
//   1. Sizes are of the packet inside the tunnel, from MTU_MIN to the tunnel's MTU. Nothing is concluded from a peer that answers no
//      padded probe at all (an older version), nor while its small probes are lost.
//   2. A size fails when TRIES probes of it in a row were lost; it holds when one is answered.
//   3. What was found is tried again every CHECK_MS, and the whole MTU every RAISE_MS: paths change.

/** The least that IPv6 asks of a link (RFC 8200, section 5). */
const MTU_MIN = 1280
/** A padded probe that fits any path: it tells whether the peer answers padded probes. */
const SMALL = 256
/** At a loss of 30 % each way, four in a row are lost once in 15 times; then a lower MTU than needed is in use until RAISE_MS. */
const TRIES = 4
const CHECK_MS = 30_000
const RAISE_MS = 600_000
/** WireGuard pads packets to 16 bytes. */
const STEP = 16

export interface PathMtu {
  /** The tunnel's MTU. */
  readonly ceiling: number
  /** `narrow`: less than the ceiling passes. `below`: not even MTU_MIN. `unsupported`: no padded probe was answered. */
  readonly verdict: 'unknown' | 'whole' | 'narrow' | 'below' | 'unsupported'
  /** Bytes to use where that is less than the ceiling. Stays in use while a new search runs. */
  readonly found: number | undefined
  /** Size of the next probe, when it is due, and how many of that size were lost in a row. */
  readonly asked: number
  readonly dueMs: number
  readonly lost: number
  /** Of the search under way: the largest size answered, the smallest that failed. */
  readonly holds: number
  readonly fails: number
  readonly isResting: boolean
  readonly raiseMs: number
}

export function startPathMtu(ceiling: number, nowMs: number): PathMtu {
  const first = { verdict: 'unknown', found: undefined, raiseMs: nowMs + RAISE_MS } as const
  return search({ ceiling, ...first }, nowMs)
}

/** The size to be probed now, if any. */
export function dueSize(path: PathMtu, nowMs: number): number | undefined {
  return nowMs >= path.dueMs ? path.asked : undefined
}

export function answered(path: PathMtu, size: number, nowMs: number): PathMtu {
  if (size !== path.asked) return path
  if (!path.isResting) return step({ ...path, lost: 0, holds: size }, nowMs)
  return path.verdict === 'narrow' && nowMs >= path.raiseMs
    ? search({ ...path, raiseMs: nowMs + RAISE_MS }, nowMs)
    : { ...path, lost: 0, dueMs: nowMs + CHECK_MS }
}

/** Only for a probe that was sent while small ones were answered. */
export function lost(path: PathMtu, size: number, nowMs: number): PathMtu {
  if (size !== path.asked) return path
  const count = path.lost + 1
  if (count < TRIES) return { ...path, lost: count }
  return path.isResting ? search(path, nowMs) : step({ ...path, lost: 0, fails: size }, nowMs)
}

type Known = Pick<PathMtu, 'ceiling' | 'verdict' | 'found' | 'raiseMs'>

function search({ ceiling, verdict, found, raiseMs }: Known, dueMs: number): PathMtu {
  const fresh = { asked: ceiling, lost: 0, holds: 0, fails: Infinity, isResting: false }
  return { ceiling, verdict, found, raiseMs, dueMs, ...fresh }
}

function step(path: PathMtu, nowMs: number): PathMtu {
  const { ceiling, holds, fails } = path
  const ask = (asked: number): PathMtu => ({ ...path, asked, dueMs: nowMs })
  const rest = (verdict: PathMtu['verdict'], found: number | undefined): PathMtu => ({
    ...search({ ...path, verdict, found }, nowMs + CHECK_MS),
    asked: found ?? ceiling,
    isResting: true
  })
  if (holds >= ceiling) return rest('whole', undefined)
  if (holds === 0 && fails > MTU_MIN) return ask(MTU_MIN)
  if (holds === 0 && fails > SMALL) return ask(SMALL)
  if (holds === 0) return search({ ...path, verdict: 'unsupported', found: undefined }, nowMs + RAISE_MS)
  if (holds < MTU_MIN) return search({ ...path, verdict: 'below', found: MTU_MIN }, nowMs + RAISE_MS)
  const middle = holds + Math.floor((fails - holds) / (2 * STEP)) * STEP
  return middle > holds ? ask(middle) : rest('narrow', holds)
}
