// The objects that this agent writes into the API of its own cluster for people and programs there: those of the
// Multi-Cluster Services API, the MeshPeers, and the answers to MeshInvites. All live as long as the process, and only the
// speaker writes.
import type { KubeApi } from '../../core/kube/kube-api.ts'
import type { OwnMulticluster } from '../../io/kube/kube-source.ts'
import type { Log } from '../observe/log.ts'
import type { CurrentSession } from '../session/current-session.ts'
import type { Settings } from '../settings/settings.ts'
import type { Invitations } from '../enrolment/invitations.ts'
import { usedInvites } from '../../core/trust/members/survey.ts'
import type { TrustContent } from '../../core/trust/set/entry.ts'
import { monotonicMs } from '../observe/clock.ts'
import { MeshInvites, type InviteFacts } from './mesh-invites.ts'
import { MeshPeers } from './mesh-peers.ts'
import { Multicluster, type ClustersetFacts } from './multicluster.ts'
import { peerFacts } from './peer-facts.ts'

interface OwnObjectsOptions {
  readonly api: KubeApi
  /** The namespace of the agent's own objects, and of MeshInvites. */
  readonly namespace: string
  /** undefined with the setting mcs=off. */
  readonly multicluster: OwnMulticluster | undefined
  readonly settings: Settings
  readonly current: CurrentSession
  readonly isSpeaker: () => boolean
  readonly invitations: Invitations
  readonly log: Log
}

/** One per process, only with a Kubernetes API. */
export class OwnObjects {
  readonly multicluster: Multicluster | undefined
  readonly peers: MeshPeers
  readonly invites: MeshInvites

  constructor(options: OwnObjectsOptions) {
    const { api, multicluster, settings, current, isSpeaker, log } = options
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
    this.invites = new MeshInvites({
      ...options,
      facts: () => {
        const { session } = current
        return session && inviteFacts(session.control.members.set)
      },
      node: settings['node-name'],
      nowMs: Date.now,
      monotonicMs
    })
  }

  /** Called after the source has started, because the exports of this cluster come from there. */
  start(): void {
    this.multicluster?.start()
    this.peers.start()
    this.invites.start()
  }

  /** Resolves when none of them writes any more. */
  async stop(): Promise<void> {
    await this.multicluster?.stop()
    await this.peers.stop()
    await this.invites.stop()
  }

  /**
   * Deletes all objects of ours, and says in MeshInvites, which are of people, that their invites are void; called when the last
   * gateway of the cluster leaves the mesh. A failure with one kind keeps none of the others. Errors: KubeError, the first one.
   */
  async undo(): Promise<void> {
    const results = await Promise.allSettled([
      this.multicluster?.undo(),
      this.peers.undo(),
      this.invites.undo()
    ])
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }
}

/** What the services of `clusterset.local` follow from; undefined while this agent is in no mesh. */
function clustersetOf({ session }: CurrentSession): ClustersetFacts | undefined {
  if (session === undefined) return undefined
  const { control, balancing } = session
  return { view: control.view(), addresses: balancing.addresses(), isWhole: control.isWhole }
}

/** What the trust set says about invites. O(n) of the set. */
function inviteFacts(content: TrustContent): InviteFacts {
  const takenBack = new Set<string>()
  for (const { statement } of content.commands.values())
    if (statement.kind === 'void') takenBack.add(statement.target)
  return { used: usedInvites(content), takenBack }
}
