// How often a tunnel has changed between up and down lately. A path that carries traffic at this moment, but fails
// every few minutes, is shown as `up` otherwise. Pure: states and times in, a history out. app/session/tunnels.ts keeps
// one history for each agent.
import type { TunnelState } from './tunnel-state.ts'

/** Changes are counted for this long, in milliseconds. */
export const FLAP_WINDOW_MS = 600_000
/** From this number of changes on a tunnel flaps. One outage makes two changes, so two outages do. */
export const FLAPS_MIN = 4

/**
 * The changes of one tunnel. Their number is bounded: a tunnel is down after 5 s without an answer at the earliest, so
 * there are at most 240 in the window.
 */
export interface TunnelHistory {
  /** The latest state that was up or down; undefined: neither yet. `connecting` comes between them and counts as none. */
  readonly settled: 'up' | 'down' | undefined
  /** Times of the changes within the window, monotonic milliseconds, oldest first. */
  readonly changesMs: readonly number[]
}

/** The history of a tunnel that was never judged. */
export const NO_HISTORY: TunnelHistory = { settled: undefined, changesMs: [] }

/** Returns the history after the tunnel was found in `state` at `nowMs`. The first state is no change. */
export function withState(
  { settled, changesMs }: TunnelHistory,
  state: TunnelState['state'],
  nowMs: number
): TunnelHistory {
  const recent = changesMs.filter((timeMs) => nowMs - timeMs < FLAP_WINDOW_MS)
  if (state === 'connecting') return { settled, changesMs: recent }
  const isChange = settled !== undefined && settled !== state
  return { settled: state, changesMs: isChange ? [...recent, nowMs] : recent }
}

/** Returns whether a tunnel with this number of changes in the window flaps. */
export function isFlapping(changes: number): boolean {
  return changes >= FLAPS_MIN
}
