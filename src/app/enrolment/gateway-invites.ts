// The invites of further gateways of this cluster: `meshctl invite --gateway` makes one, and this agent gives the key of the
// cluster to the host that proves its secret. For sites without Kubernetes; with it, gateways share the key through a
// Secret (shared-key.ts). core/trust/door/judge-gateway.ts decides.
// Invariants
//   1. Requests are judged one after the other, and who has used an invite is on disk before the answer leaves. So one
//      token gives the key to one agent, also after a crash or while two ask at once.
//   2. The token's secret is in the token only: this agent keeps the public key.
//   3. An heir, which an administrator of this host has named, has an invite without a token: its key is the key of that agent.
//      So only the holder of that agent's key is given the key of the cluster, and not a thief of the cluster's old key.
//   4. An heir that a Bar of any earlier key of the cluster names is given nothing: the Bar may come after the rotation. The
//      holder of a token is judged by the Bars of the present key, since a person made that token with that key.
//   5. Invites of other keys than the present and the next one are not kept: they give nothing, and the file has a bound.
import type { InviteRow } from '../../api/trust-answers.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import { publicKeyOf } from '../../core/model/identity.ts'
import type { Origin } from '../../core/model/values.ts'
import { rejection } from '../../core/trust/door/codes.ts'
import { GATEWAY_BOOTSTRAP_MAX, type GatewayGift } from '../../core/trust/door/frames.ts'
import { isHeir, judgeGateway, mayAsk, type GatewayInvite } from '../../core/trust/door/judge-gateway.ts'
import type { GatewayAnswer, HandshakeOutcome } from '../../core/trust/door/port.ts'
import { encodeGatewayToken } from '../../core/trust/gateway-token.ts'
import { isAgentBarred } from '../../core/trust/set/agents.ts'
import { keyId, type KeyId } from '../../core/trust/set/ids.ts'
import type { GatewayFile } from '../../io/store/gateway-file.ts'
import type { Store } from '../../io/store/store.ts'
import { chooseBootstrap } from '../identity/bootstrap.ts'
import type { Membership } from '../identity/identity.ts'
import { AppError } from '../observe/errors.ts'
import type { Log } from '../observe/log.ts'
import { notJoined, type CurrentSession } from '../session/current-session.ts'
import type { Session } from '../session/session.ts'
import type { Source } from '../sources/source.ts'
import { addressesByCluster } from './invitations.ts'

/** Requests that wait for their turn. Each costs one write to the disk at most. */
const WAITING_MAX = 16
/** Invites that are open at once: a site has a few gateways. */
const GATEWAY_INVITES_MAX = 64
/** Seconds (30 days) for which an invite is kept after its date, so that a second user hears that it was used. */
const KEPT_SECONDS = 30 * 86_400

interface GatewayInvitesOptions {
  readonly file: GatewayFile
  readonly current: CurrentSession
  readonly store: Pick<Store, 'identity'>
  readonly source: Pick<Source, 'kind'>
  readonly crypto: Crypto
  readonly log: Log
  /** Unix milliseconds. */
  readonly now?: () => number
}

/** A new token. */
interface InvitedGateway {
  /** A secret: its first user gets the key of the cluster. It is shown once and not kept. */
  readonly token: string
  readonly cluster: string
  /** Unix milliseconds. */
  readonly expiresMs: number
  readonly bootstrap: readonly string[]
}

/** A membership of which a member has accepted the key. */
type Member = Membership & { readonly stage: Extract<Membership['stage'], { kind: 'member' }> }

/** See the head of this file. One per process. */
export class GatewayInvites {
  readonly #options: GatewayInvitesOptions
  #turn: Promise<unknown> = Promise.resolve()
  #waiting = 0

  constructor(options: GatewayInvitesOptions) {
    this.#options = options
  }

  /**
   * Makes a token for one more gateway of this cluster. The invite is on disk before the token is returned. Errors:
   * AppError NOT_JOINED, NOT_ADMITTED, KEY_IN_SECRET, TOO_MANY_INVITES, BAD_ARGUMENT; StoreError.
   */
  async invite({ ttlSeconds }: { readonly ttlSeconds: number }): Promise<InvitedGateway> {
    const { crypto, log } = this.#options
    const { session, membership, clusterKey } = this.#member()
    const bootstrap = ownAddressesOf(session).slice(0, BOOTSTRAP_MAX)
    if (bootstrap.length === 0)
      throw new AppError(
        'BAD_ARGUMENT',
        'gateway: this agent has no address at which the new gateway could dial it',
        'set `announce` to an address of this host that the new gateway reaches'
      )
    const seed = crypto.random(32)
    const notAfter = this.#now() + ttlSeconds
    const invite = { key: keyId(crypto.publicKeyOf(seed)), clusterKey, notAfter }
    await this.#inTurn(async () => {
      const kept = this.#kept()
      if (kept.filter((one) => this.#stateOf(one) === 'open').length >= GATEWAY_INVITES_MAX)
        throw new AppError(
          'TOO_MANY_INVITES',
          `${GATEWAY_INVITES_MAX} invites of gateways are open`,
          'cancel them with `meshctl invite cancel --gateway`, or wait until they expire'
        )
      await this.#options.file.save([...kept, invite])
    })
    const { roots, cluster } = membership
    log.info({ cluster, until: new Date(notAfter * 1000).toISOString() }, 'invited one more gateway')
    return {
      token: encodeGatewayToken(crypto, { roots, cluster, clusterKey, seed, notAfter, bootstrap }),
      cluster,
      expiresMs: notAfter * 1000,
      bootstrap
    }
  }

  /** The invites of gateways of the present cluster key, for `meshctl invite list`. */
  rows(): readonly InviteRow[] {
    const { membership } = this.#options.current
    if (membership === undefined) return []
    const clusterKey = this.#keyOf(membership)
    return this.#kept()
      .filter((one) => one.clusterKey === clusterKey)
      .map((one) => ({
        cluster: membership.cluster,
        state: this.#stateOf(one),
        expires: new Date(one.notAfter * 1000).toISOString(),
        cidrs: [],
        gateway: one.usedBy === undefined ? {} : { usedBy: one.usedBy }
      }))
  }

  /**
   * Takes all open invites of gateways back; resolves to their number. Errors: AppError NOT_JOINED, NO_INVITE; StoreError.
   */
  async cancel(): Promise<number> {
    this.#options.current.required()
    return this.#inTurn(async () => {
      const kept = this.#kept()
      const rest = kept.filter((one) => this.#stateOf(one) !== 'open')
      if (rest.length === kept.length)
        throw new AppError(
          'NO_INVITE',
          'this agent keeps no open invite of a gateway',
          'see `meshctl invite list`; an invite is cancelled on the gateway that made it, and a gateway that has joined is ended with `meshctl revoke <PeerId>`'
        )
      await this.#options.file.save(rest)
      return kept.length - rest.length
    })
  }

  /**
   * The agents that no Bar names and that have the key of this cluster, whether they have told their records or not: they
   * have it from here, may ask for it, or made the backup from which this agent comes. A leave must not end their cluster.
   */
  holders(): readonly Origin[] {
    const { session } = this.#options.current
    if (session === undefined) return []
    const own = this.#keyOf(session.membership)
    const invited = this.#options.file.invites().flatMap((one) => {
      const { usedBy, clusterKey } = one
      if (usedBy === undefined || clusterKey !== own) return []
      return this.#isBarred(session, usedBy, isHeir(one)) ? [] : [usedBy]
    })
    const former = (this.#options.store.identity()?.backedUpBy ?? [])
      .filter(({ clusterKey }) => clusterKey === own)
      .map(({ peerId }) => peerId as Origin)
      .filter((peerId) => !this.#isBarred(session, peerId, false))
    return [...new Set([...invited, ...former])].filter((origin) => origin !== session.control.origin)
  }

  /** Whether this is such an agent. */
  isFor(origin: Origin): boolean {
    return this.holders().includes(origin)
  }

  /**
   * Lets these agents of the cluster ask for its next key (key-inheritance.ts). On disk when it resolves, and worth nothing until this
   * agent has that key. Errors: StoreError.
   */
  async keepHeirs(heirs: readonly Origin[], clusterKey: KeyId): Promise<void> {
    if (heirs.length === 0) return
    const keyOf = new Map(heirs.map((heir) => [heir, publicKeyOf(heir)]))
    const invites = [...keyOf].flatMap(([usedBy, key]) =>
      key === undefined ? [] : [{ key: keyId(key), clusterKey, notAfter: this.#now(), usedBy }]
    )
    // A rotation that was refused may have left invites of a key that no gateway has.
    const present = this.#keyOf(this.#options.current.required().membership)
    await this.#inTurn(() =>
      this.#options.file.save([...this.#kept().filter((one) => one.clusterKey === present), ...invites])
    )
  }

  /** Forgets all invites. Called when this agent has left its mesh. Errors: StoreError. */
  clear(): Promise<void> {
    return this.#options.file.clear()
  }

  /** Whether an invite with this public key is kept, open or used, that this peer may show. */
  knows(key: Uint8Array, peer: Origin): boolean {
    return mayAsk(this.#options.file.invites(), { key: keyId(key), peer })
  }

  /**
   * Answers an agent that has proved the secret of a token. Never rejects: a disk that accepts no writes is a reason to try
   * again later.
   */
  async answer(peer: Origin, knock: GatewayKnock): Promise<GatewayAnswer> {
    if (this.#waiting >= WAITING_MAX) return busy(`${WAITING_MAX} new gateways ask at once`)
    this.#waiting++
    try {
      return await this.#inTurn(() => this.#judge(peer, knock))
    } catch (error) {
      this.#options.log.error({ err: error }, 'the use of an invite could not be written')
      return busy('the dialled gateway cannot write to its disk')
    } finally {
      this.#waiting--
    }
  }

  async #judge(peer: Origin, { key, software }: GatewayKnock): Promise<GatewayAnswer> {
    const { current, file, log } = this.#options
    const { session } = current
    if (session === undefined || !isMember(session.membership))
      return busy('the dialled gateway is no member itself yet')
    const { membership } = session
    const clusterKey = this.#keyOf(membership)
    const standing = session.control.members.standing()
    const verdict = judgeGateway(
      file.invites(),
      { key: keyId(key), peer },
      {
        clusterKey,
        stands: standing.clusters.get(clusterKey)?.verdict.stands === true,
        isBarred: (heir) => this.#isBarred(session, peer, heir),
        now: this.#now()
      }
    )
    if (verdict.kind === 'reject') return verdict
    const { invite, isFirst } = verdict
    if (isFirst) await file.save([...this.#kept().filter((one) => one.key !== invite.key), invite])
    log.info(
      { peer, software, again: !isFirst },
      'gave the key of this cluster to one more gateway, which had a token'
    )
    return { kind: 'gateway', gift: this.#gift(session, membership) }
  }

  /** `isHeir`: by the Bars of earlier keys of the cluster, too (invariant 4). */
  #isBarred({ control, membership }: Session, peer: Origin, isHeir: boolean): boolean {
    const agentKey = publicKeyOf(peer)
    if (agentKey === undefined) return true
    const own = this.#keyOf(membership)
    const standing = control.members.standing()
    const line = (isHeir ? standing.clusters.get(own)?.line : undefined) ?? [own]
    return line.some((clusterKey) => isAgentBarred(standing, { clusterKey, agentKey: keyId(agentKey) }))
  }

  #gift(session: Session, { clusterSeed, stage, bootstrap, realPrefixes }: Member): GatewayGift {
    const { store } = this.#options
    const clusterKey = keyId(this.#options.crypto.publicKeyOf(clusterSeed))
    const known = addressesByCluster(session)
    const others = [...known.values()].some(({ length }) => length > 0) ? chooseBootstrap([], known) : []
    const all = new Set([...ownAddressesOf(session), ...others, ...bootstrap])
    return {
      clusterSeed,
      item: stage.clusterItem,
      bootstrap: [...all].slice(0, GATEWAY_BOOTSTRAP_MAX),
      generation: Math.max(
        store.identity()?.generation ?? 1,
        session.control.members.generations().get(clusterKey) ?? 1
      ),
      realPrefixes
    }
  }

  /** The session of a member, for requests of an operator. */
  #member(): { readonly session: Session; readonly membership: Member; readonly clusterKey: KeyId } {
    const { current, source } = this.#options
    const session = current.session
    if (session === undefined) throw notJoined()
    const { membership } = session
    if (source.kind === 'kubernetes')
      throw new AppError(
        'KEY_IN_SECRET',
        'the gateways of a Kubernetes cluster take its key from the Secret `rhizome-cluster-key`, so a new one needs no token',
        'start meshd on the other Node with the same settings: it joins by itself'
      )
    if (!isMember(membership))
      throw new AppError(
        'NOT_ADMITTED',
        'no member has admitted this cluster yet',
        'wait until `meshctl status` shows the state running'
      )
    return { session, membership, clusterKey: this.#keyOf(membership) }
  }

  #keyOf({ clusterSeed }: Membership): KeyId {
    return keyId(this.#options.crypto.publicKeyOf(clusterSeed))
  }

  /** The invites, without those whose date is long past. */
  #kept(): readonly GatewayInvite[] {
    const now = this.#now()
    return this.#options.file.invites().filter(({ notAfter }) => notAfter + KEPT_SECONDS > now)
  }

  #stateOf({ usedBy, notAfter }: GatewayInvite): 'open' | 'used' | 'expired' {
    if (usedBy !== undefined) return 'used'
    return this.#now() > notAfter ? 'expired' : 'open'
  }

  /** Unix seconds. */
  #now(): number {
    return Math.floor((this.#options.now ?? Date.now)() / 1000)
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(act)
    this.#turn = result.catch(() => undefined)
    return result
  }
}

type GatewayKnock = Extract<HandshakeOutcome, { kind: 'gatewayKnock' }>

/** Addresses in a token, so that it fits a line that a person can paste. */
const BOOTSTRAP_MAX = 6

/** The multiaddrs of this agent, with its PeerId. */
function ownAddressesOf({ control, facts }: Session): readonly string[] {
  return facts.multiaddrs.map((address) => `${address}/p2p/${control.origin}`)
}

function isMember(membership: Membership): membership is Member {
  return membership.stage.kind === 'member'
}

function busy(reason: string): GatewayAnswer {
  return { kind: 'reject', ...rejection('busy', reason), explain: [] }
}
