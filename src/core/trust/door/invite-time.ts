// The one place where trust reads a clock: the sponsor's, when it lets a newcomer in. A sponsor whose clock may be wrong
// admits no cluster, so an old token does not come in through the member with the worst clock.
import { durationText, timeText } from '../../model/time-text.ts'
import type { KeyId } from '../set/ids.ts'
import type { Invite } from '../set/statement.ts'
import { rejection, type Rejection } from './codes.ts'

/** What the sponsor knows of the time. */
export interface DoorClocks {
  /** The sponsor's clock, in Unix seconds. */
  readonly ownNow: number
  /**
   * How far the clocks of neighbours are ahead of the sponsor's now, in seconds, by the key of their cluster. The
   * sponsor's own cluster is not among them. The caller takes the skew of each Hello, less by how much its own clock
   * was stepped since.
   */
  readonly neighbourSkews: ReadonlyMap<KeyId, readonly number[]>
  /** The newcomer's clock, in Unix seconds. It decides nothing, and is named in a refusal. */
  readonly peerSeconds: number
}

type TimeVerdict = { readonly kind: 'valid' } | ({ readonly kind: 'reject' } & Rejection)

/** Fewer clusters do not outvote a clock: two of them may share one wrong source. */
const NEIGHBOUR_CLUSTERS_MIN = 3
/** Seconds. An hour is far more than clocks with a time server differ, and far less than an invite lives. */
const SKEW_SECONDS_MAX = 3600
/** Seconds by which two healthy clocks differ: an invite may be redeemed in the second in which it is made. */
const TOLERANCE_SECONDS = 300

/** Judges the dates of an invite. Pure; never throws on any numbers. */
export function judgeInviteTime(
  { cluster, notBefore, notAfter }: Pick<Invite, 'cluster' | 'notBefore' | 'notAfter'>,
  { ownNow, neighbourSkews, peerSeconds }: DoorClocks
): TimeVerdict {
  const skew = medianSkew(neighbourSkews)
  if (skew !== undefined && !(Math.abs(skew) <= SKEW_SECONDS_MAX)) {
    const way = skew > 0 ? 'behind' : 'ahead of'
    return reject(
      'clock',
      `the sponsor's clock (${timeText(ownNow)}) is ${durationText(Math.abs(skew))} ${way} those of ${neighbourSkews.size} neighbour clusters`
    )
  }
  const clocks = `the sponsor's clock says ${timeText(ownNow)}${newcomerText(peerSeconds - ownNow)}`
  if (ownNow > notAfter + TOLERANCE_SECONDS)
    return reject(
      'expired',
      `the invite of ${cluster} expired ${durationText(ownNow - notAfter)} ago, at ${timeText(notAfter)}; ${clocks}`
    )
  if (ownNow < notBefore - TOLERANCE_SECONDS)
    return reject(
      'notYet',
      `the invite of ${cluster} becomes valid in ${durationText(notBefore - ownNow)}, at ${timeText(notBefore)}; ${clocks}`
    )
  return { kind: 'valid' }
}

/**
 * The median over clusters of the median of each one's agents, so that a cluster of many agents has one voice. Undefined
 * where too few clusters are known. Of an even number the one of the two middle ones counts that is farther from this
 * clock: in doubt the newcomer goes to the next door.
 */
function medianSkew(skews: DoorClocks['neighbourSkews']): number | undefined {
  const byCluster = [...skews.values()].map(median).filter((skew) => skew !== undefined)
  return byCluster.length < NEIGHBOUR_CLUSTERS_MIN ? undefined : median(byCluster)
}

function median(numbers: readonly number[]): number | undefined {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = [sorted[Math.floor((sorted.length - 1) / 2)], sorted[Math.floor(sorted.length / 2)]]
  return middle.filter((one) => one !== undefined).sort((a, b) => Math.abs(b) - Math.abs(a))[0]
}

/** Tells the newcomer when its own clock is wrong, which it may hear nowhere else. */
function newcomerText(ahead: number): string {
  if (!(Math.abs(ahead) > TOLERANCE_SECONDS)) return ''
  return `, and the newcomer's is ${durationText(Math.abs(ahead))} ${ahead > 0 ? 'ahead' : 'behind'}`
}

function reject(...args: Parameters<typeof rejection>): TimeVerdict {
  return { kind: 'reject', ...rejection(...args) }
}
