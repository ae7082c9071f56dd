// Invites of other clusters: made on request, and closed once the invited cluster is a member.
import type { InviteRequest } from '../../api/requests.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import type { ClusterName } from '../../core/model/values.ts'
import type { MeshView } from '../../core/view/view.ts'
import type { Store } from '../../io/store/store.ts'
import { invite, withoutRedeemedInvites, type Invited } from '../identity/invite.ts'
import type { NodeIdentity } from '../identity/node-identity.ts'
import type { Log } from '../observe/log.ts'
import type { CurrentSession } from '../session/current-session.ts'
import { ownAddresses } from './own-addresses.ts'

export interface InvitationsOptions {
  readonly current: CurrentSession
  readonly node: NodeIdentity
  readonly store: Pick<Store, 'identity' | 'saveIdentity'>
  readonly crypto: Crypto
  readonly log: Log
}

export class Invitations {
  readonly #options: InvitationsOptions

  constructor(options: InvitationsOptions) {
    this.#options = options
  }

  /** Errors: AppError NOT_JOINED and those of `invite` of invite.ts. */
  async invite(request: InviteRequest): Promise<Invited> {
    const { current, node, store, crypto, log } = this.#options
    const session = current.required()
    const view = session.control.view()
    const made = invite(request, {
      crypto,
      identity: await node.current(),
      nowMs: Date.now(),
      view,
      bootstrap: addressesByCluster(view),
      hostNetworks: ownAddresses(),
      around: await session.around()
    })
    await store.saveIdentity(made.identity)
    log.info(
      { cluster: request.cluster, prefixes: [...made.podPrefixes, ...made.servicePrefixes] },
      'invited'
    )
    return made
  }

  /** Closes the invites of clusters that are members, so that their prefixes are free once they have left. Errors: of the store. */
  async closeRedeemed(): Promise<void> {
    const { current, store } = this.#options
    const identity = store.identity()
    if (identity?.invites === undefined || current.session === undefined) return
    const next = withoutRedeemedInvites(identity, current.session.control.view())
    if (next !== identity) await store.saveIdentity(next)
  }
}

/** The own cluster first. Multiaddrs with PeerIds. */
function addressesByCluster(view: MeshView): ReadonlyMap<ClusterName, readonly string[]> {
  const result = new Map<ClusterName, readonly string[]>()
  for (const name of [view.self, ...view.clusters.keys()]) {
    const agents = view.clusters.get(name)?.agents ?? []
    result.set(
      name,
      agents.flatMap(({ origin, agent }) => agent.multiaddrs.map((address) => `${address}/p2p/${origin}`))
    )
  }
  return result
}
