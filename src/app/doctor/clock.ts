// The check of the clock: this host's time beside that of its neighbours of other clusters, as the handshakes tell it. The
// mesh itself works with any clock; a wrong one makes good tokens expire, and the API of Kubernetes refuse its certificates.
// A neighbour may say any time, so one of them proves nothing: two clusters are needed to blame this host.
import { durationText } from '../../core/model/time-text.ts'
import type { Session } from '../session/session.ts'
import type { Finding } from './finding.ts'

// Seconds. Clocks with a time server differ by less than one; a handshake over a slow line takes some.
const SKEW_SECONDS_MAX = 60
const FIX =
  'compare `date -u` on both hosts with a time server, and set the wrong clock (`timedatectl set-ntp true`): else good tokens are refused as expired'

/** The parts of a session that the check reads. */
type Clocks = { readonly control: Pick<Session['control'], 'neighbour' | 'view'> }

/** One finding for this host where most clusters agree that its clock is wrong; else one for each cluster that differs. */
export async function checkClock({ control }: Clocks): Promise<readonly Finding[]> {
  const skews = skewsByCluster(control)
  if (skews.size === 0) return []
  const wrong = [...skews].filter(([, seconds]) => !(Math.abs(seconds) <= SKEW_SECONDS_MAX))
  const [first] = wrong
  if (first === undefined)
    return [
      {
        check: 'clock',
        state: 'ok',
        subject: '',
        text: `the clock of this host and those of ${skews.size === 1 ? '1 neighbour cluster' : `${skews.size} neighbour clusters`} agree within ${SKEW_SECONDS_MAX} s`
      }
    ]
  const middle = median([...skews.values()])
  if (skews.size > 1 && wrong.length > skews.size / 2 && !(Math.abs(middle) <= SKEW_SECONDS_MAX))
    return [
      warning(
        '',
        `the clock of this host is ${durationText(Math.abs(middle))} ${middle > 0 ? 'behind' : 'ahead of'} those of most of ${skews.size} neighbour clusters`,
        'set the clock of this host: `timedatectl` shows whether it follows a time server (`timedatectl set-ntp true`); else good tokens are refused as expired'
      )
    ]
  return wrong.map(([cluster, seconds]) =>
    warning(
      cluster,
      `the clock of cluster ${cluster} is ${durationText(Math.abs(seconds))} ${seconds > 0 ? 'ahead of' : 'behind'} that of this host, so one of the two is wrong`,
      FIX
    )
  )
}

/** The median of the agents of each other cluster, so that a cluster of many agents has one voice. */
function skewsByCluster(control: Clocks['control']): ReadonlyMap<string, number> {
  const { clusters, self } = control.view()
  return new Map(
    [...clusters.values()].flatMap(({ name, agents }): [string, number][] => {
      const known = agents.flatMap(({ origin }) => control.neighbour(origin)?.skewSeconds ?? [])
      return name === self || known.length === 0 ? [] : [[name, median(known)]]
    })
  )
}

/** The lower one of the two in the middle. The list is not empty. */
function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor((numbers.length - 1) / 2)] ?? 0
}

function warning(subject: string, text: string, fix: string): Finding {
  return { check: 'clock', state: 'warning', subject, text, fix }
}
