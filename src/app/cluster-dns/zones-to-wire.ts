// Which zones the cluster's own DNS gets.
import { zonesToForward } from '../../core/coredns/cluster-dns.ts'
import type { CurrentSession } from '../session/current-session.ts'
import type { Settings } from '../settings/settings.ts'

/**
 * The zones that the cluster's own DNS forwards to this agent: `cluster.<name>` of every cluster, this one included,
 * and `cluster.all`.
 */
export function zonesToWire({
  current,
  settings
}: {
  readonly current: CurrentSession
  readonly settings: Settings
}): readonly string[] {
  const zones = current.session?.names().zones() ?? []
  return zonesToForward(
    zones.map(({ zone }) => zone),
    settings['cluster-domain']
  )
}
