// This file finds the largest packet that passes a tunnel in both directions, with padded probes. A path that drops
// large packets without an ICMP error lets small requests pass and stops bulk transfers (RFC 8899,
// packetization-layer path MTU discovery).
// Invariants
//   1. Sizes are those of the packet inside the tunnel, from MTU_MIN to the tunnel's MTU. Nothing is concluded
//      while small probes are lost, nor from a peer that answers no padded probe at all (an older version).
//   2. A size fails when TRIES probes of it in a row were lost. A size holds when one probe of it is answered.
//   3. The size found is probed again every CHECK_MS, and the whole MTU every RAISE_MS, because paths change.

/** The least MTU that IPv6 requires of a link, in bytes (RFC 8200, section 5). */
const MTU_MIN = 1280
/** Bytes of a padded probe that fits any path: its answer shows that the peer answers padded probes. */
const SMALL = 256
/**
 * Probes that must be lost in a row. At a loss of 30 % each way, four in a row are lost once in 15 times; then the
 * MTU in use is lower than needed until RAISE_MS has passed.
 */
const TRIES = 4
const CHECK_MS = 30_000
const RAISE_MS = 600_000
/** WireGuard pads packets to 16 bytes. */
const STEP = 16

/** State of the search on one path. Sizes are in bytes, times in milliseconds on the caller's clock. */
export interface PathMtu {
  /** The tunnel's MTU. */
  readonly ceiling: number
  /**
   * `narrow`: less than the ceiling passes. `below`: not even MTU_MIN passes. `unsupported`: no padded probe was
   * answered.
   */
  readonly verdict: 'unknown' | 'whole' | 'narrow' | 'below' | 'unsupported'
  /** The size to use instead of the ceiling; undefined: use the ceiling. It stays in use while a new search runs. */
  readonly found: number | undefined
  /** Size of the next probe, the time when it is due, and how many probes of that size were lost in a row. */
  readonly asked: number
  readonly dueMs: number
  readonly lost: number
  /** Largest size answered and smallest size that failed in the search under way. */
  readonly holds: number
  readonly fails: number
  readonly isResting: boolean
  readonly raiseMs: number
}

/** Starts a search from the tunnel's MTU (`ceiling`, bytes). */
export function startPathMtu(ceiling: number, nowMs: number): PathMtu {
  const first = { verdict: 'unknown', found: undefined, raiseMs: nowMs + RAISE_MS } as const
  return search({ ceiling, ...first }, nowMs)
}

/** Returns the size to probe now, or undefined when no probe is due. */
export function dueSize(path: PathMtu, nowMs: number): number | undefined {
  return nowMs >= path.dueMs ? path.asked : undefined
}

/**
 * Returns the state after a probe of `size` bytes was answered. An answer to another size than the one asked changes
 * nothing.
 */
export function answered(path: PathMtu, size: number, nowMs: number): PathMtu {
  if (size !== path.asked) return path
  if (!path.isResting) return step({ ...path, lost: 0, holds: size }, nowMs)
  return path.verdict === 'narrow' && nowMs >= path.raiseMs
    ? search({ ...path, raiseMs: nowMs + RAISE_MS }, nowMs)
    : { ...path, lost: 0, dueMs: nowMs + CHECK_MS }
}

/**
 * Returns the state after a probe of `size` bytes was lost. Call only for a probe that was sent while small probes
 * were answered.
 */
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
  // Large packets are lost in this state, which is an error for the operator: its end is seen as early as a new loss.
  if (holds < MTU_MIN) return search({ ...path, verdict: 'below', found: MTU_MIN }, nowMs + CHECK_MS)
  const middle = holds + Math.floor((fails - holds) / (2 * STEP)) * STEP
  return middle > holds ? ask(middle) : rest('narrow', holds)
}
