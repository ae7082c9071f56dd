// How a gateway of a site without Kubernetes gets the new key of its cluster after `meshctl key rotate --cluster` on another
// one, also when it was down meanwhile: it asks the gateways that it knows, one after the other. Only the gateway that rotated
// has its invite (gateway-invites.ts, invariant 3), and only when a person has named this agent there with --keep.
// Invariants
//   1. The key that is taken is that of the cluster that has this one's place by the trust set of this agent, and the gateway that
//      gives it has proved that key (core/trust/door/gateway-request.ts). So a thief of the old key can give it nothing.
//   2. Seats and root keys of this agent stay: they are no part of the key of the cluster.
//   3. The addresses of the other gateways are on disk before the first try, because their records end with the old key. They are
//      taken from each gateway in turn, so that a thief of the old key with many addresses does not push the others out.
//   4. A key that lost the place of this cluster while its gateway answered is not taken.
import type { Crypto } from '../../core/model/crypto.ts'
import { GATEWAY_BOOTSTRAP_MAX } from '../../core/trust/door/frames.ts'
import { keyId, type KeyId } from '../../core/trust/set/ids.ts'
import type { Identity, Store } from '../../io/store/store.ts'
import { inTurn } from '../identity/bootstrap.ts'
import { bytes } from '../identity/encoding.ts'
import { pendingMembership } from '../identity/identity.ts'
import { withShared } from '../identity/shared-identity.ts'
import { monotonicMs } from '../observe/clock.ts'
import { explain } from '../observe/errors.ts'
import type { Log } from '../observe/log.ts'
import type { CurrentSession } from '../session/current-session.ts'
import type { Session } from '../session/session.ts'
import type { Source } from '../sources/source.ts'
import type { Enrolment } from './enrolment.ts'
import { askForKey } from './gateway-join.ts'
import type { SharedKey } from './shared-key.ts'

/** Milliseconds for one gateway to answer: it may be down, and the others wait for their turn. */
const ASK_MS = 5000
/** Milliseconds between two rounds, which double up to the second value. */
const ROUND_MS = 1000
const ROUND_MAX_MS = 60_000

interface KeyInheritanceOptions {
  readonly current: CurrentSession
  readonly store: Pick<Store, 'identity' | 'changeIdentity'>
  readonly source: Pick<Source, 'refresh'>
  /** With a Secret the gateways have the key from it, and this part does nothing. */
  readonly sharedKey: SharedKey | undefined
  readonly enrolment: Pick<Enrolment, 'isChanging' | 'isLeaving'>
  readonly crypto: Crypto
  readonly log: Log
  /** Asks the gateways of a token for the key. Default: askForKey. */
  readonly ask?: typeof askForKey
}

/** See the head of this file. One per process; PartWatch calls `look` once a second. */
export class KeyInheritance {
  readonly #options: KeyInheritanceOptions
  /** Multiaddrs of the other gateways, as of the last view in which this cluster stood: their records end with the old key. */
  #known: readonly string[] = []
  #round: Promise<void> | undefined
  #rounds = 0
  #nextMs = 0
  #isStopped = false

  constructor(options: KeyInheritanceOptions) {
    this.#options = options
    options.current.onView = () => this.#note()
  }

  /** Notes where the other gateways are: after each change of the view, so that one that has just joined is known. */
  #note(): void {
    const { current, sharedKey } = this.#options
    const { session } = current
    if (session !== undefined && sharedKey === undefined && current.stands) this.#known = addressesOf(session)
  }

  /** `isReplaced`: whether another key has the place of this cluster's. Never throws. */
  look(isReplaced: boolean): void {
    const { current, sharedKey, log } = this.#options
    const { session } = current
    if (session === undefined || sharedKey !== undefined) return
    if (!isReplaced) {
      this.#note()
      this.#rounds = 0
      this.#nextMs = 0
      return
    }
    if (this.#isStopped || this.#round !== undefined || monotonicMs() < this.#nextMs) return
    this.#round = this.#ask(session)
      .catch((error: unknown) => log.warn({ err: error }, 'the new key of this cluster could not be taken'))
      .finally(() => {
        this.#round = undefined
        this.#nextMs = monotonicMs() + Math.min(ROUND_MAX_MS, ROUND_MS * 2 ** this.#rounds++)
      })
  }

  /** Ends the rounds; resolves when the request under way has ended. */
  async stop(): Promise<void> {
    this.#isStopped = true
    await this.#round
  }

  async #ask(session: Session): Promise<void> {
    const { crypto, store, log, ask = askForKey } = this.#options
    const { cluster, roots, clusterSeed } = session.membership
    const successor = successorOf(session, keyId(crypto.publicKeyOf(clusterSeed)))
    const before = store.identity()
    if (successor === undefined || before === undefined) return
    const bootstrap = [...new Set([...addressesOf(session), ...this.#known, ...(before.bootstrap ?? [])])]
    const kept = bootstrap.slice(0, GATEWAY_BOOTSTRAP_MAX)
    if (kept.some((each) => before.bootstrap?.includes(each) !== true))
      await store.changeIdentity((identity) => ({ ...identity, bootstrap: kept }))
    const seed = bytes(before.nodeSeed)
    const byPeer = Map.groupBy(bootstrap, (address) => address.split('/p2p/').at(-1) ?? '')
    byPeer.delete(session.control.origin)
    for (const [peer, addresses] of byPeer) {
      if (this.#isOver(session)) return
      try {
        // The own key of this agent is the secret of its invite.
        const token = { roots, cluster, clusterKey: successor, seed, bootstrap: addresses }
        const given = await ask(token, seed, { crypto, log, deadlineMs: ASK_MS })
        return await this.#take(session, successor, given.secret)
      } catch (error) {
        log.info(
          { peer, reason: explain(error).message },
          'this gateway did not give the new key of the cluster'
        )
      }
    }
  }

  async #take(session: Session, successor: KeyId, secret: Parameters<typeof withShared>[1]): Promise<void> {
    const { store, source, crypto, log } = this.#options
    const own = keyId(crypto.publicKeyOf(session.membership.clusterSeed))
    if (this.#isOver(session) || successorOf(session, own) !== successor) return
    const next = await store.changeIdentity((before): Identity => {
      const { seats = [], rootSeeds = [], rootExported = false } = before
      const bootstrap = [...new Set([...secret.bootstrap, ...(before.bootstrap ?? [])])]
      return {
        ...withShared(before, secret, { crypto, nowMs: Date.now() }),
        seats,
        rootSeeds,
        rootExported,
        bootstrap: bootstrap.slice(0, GATEWAY_BOOTSTRAP_MAX)
      }
    })
    if (next === undefined) return
    session.renew(pendingMembership(next, crypto))
    source.refresh()
    log.info({ cluster: next.cluster }, 'took the new key of this cluster from another gateway')
  }

  /** Whether the membership changes by other means, or is that of another session. */
  #isOver(session: Session): boolean {
    const { current, enrolment } = this.#options
    return this.#isStopped || current.session !== session || enrolment.isChanging || enrolment.isLeaving
  }
}

/** The key of the cluster that has the place of `own`, as this agent knows. */
function successorOf(session: Session, own: KeyId): KeyId | undefined {
  const { control, membership } = session
  for (const { key, name, verdict, line } of control.members.standing().clusters.values())
    if (verdict.stands && name === membership.cluster && key !== own && line.includes(own)) return key
  return undefined
}

/** The multiaddrs of the other agents of this cluster, of each agent in turn. */
function addressesOf({ control }: Session): readonly string[] {
  const view = control.view()
  const others = (view.clusters.get(view.self)?.agents ?? []).filter(
    ({ origin }) => origin !== control.origin
  )
  return inTurn(
    new Map(
      others.map(({ origin, agent }) => [
        origin,
        agent.multiaddrs.map((address) => `${address}/p2p/${origin}`)
      ])
    )
  )
}
