// The objects that this agent writes into the API of its own cluster for people and programs there: those of the
// Multi-Cluster Services API, and the MeshPeers. Both live as long as the process, and only the speaker writes.
import type { KubeApi } from '../../core/kube/kube-api.ts'
import type { OwnMulticluster } from '../../io/kube/kube-source.ts'
import type { Log } from '../observe/log.ts'
import type { CurrentSession } from '../session/current-session.ts'
import type { Settings } from '../settings/settings.ts'
import { MeshPeers } from './mesh-peers.ts'
import { Multicluster, type ClustersetFacts } from './multicluster.ts'
import { peerFacts } from './peer-facts.ts'

interface OwnObjectsOptions {
  readonly api: KubeApi
  /** undefined with the setting mcs=off. */
  readonly multicluster: OwnMulticluster | undefined
  readonly settings: Settings
  readonly current: CurrentSession
  readonly isSpeaker: () => boolean
  readonly log: Log
}

/** One per process, only with a Kubernetes API. */
export class OwnObjects {
  readonly multicluster: Multicluster | undefined
  readonly peers: MeshPeers

  constructor({ api, multicluster, settings, current, isSpeaker, log }: OwnObjectsOptions) {
    this.multicluster =
      multicluster &&
      new Multicluster({
        api,
        own: multicluster,
        writesSlices: settings.mcs === 'on',
        facts: () => clustersetOf(current),
        isSpeaker,
        log
      })
    this.peers = new MeshPeers({
      api,
      facts: () => {
        const { session } = current
        return session && { peers: peerFacts(session), isWhole: session.control.isWhole }
      },
      isSpeaker,
      node: settings['node-name'],
      log
    })
  }

  /** Called after the source has started, because the exports of this cluster come from there. */
  start(): void {
    this.multicluster?.start()
    this.peers.start()
  }

  /** Resolves when neither writes any more. */
  async stop(): Promise<void> {
    await this.multicluster?.stop()
    await this.peers.stop()
  }

  /**
   * Deletes all objects of ours; called when the last gateway of the cluster leaves the mesh. Objects of one kind that cannot
   * be deleted keep none of the other. Errors: KubeError, the first one.
   */
  async undo(): Promise<void> {
    const results = await Promise.allSettled([this.multicluster?.undo(), this.peers.undo()])
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }
}

/** What the services of `clusterset.local` follow from; undefined while this agent is in no mesh. */
function clustersetOf({ session }: CurrentSession): ClustersetFacts | undefined {
  if (session === undefined) return undefined
  const { control, balancing } = session
  return { view: control.view(), addresses: balancing.addresses(), isWhole: control.isWhole }
}
