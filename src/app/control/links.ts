// The connections to other agents, from the first frame to the last: who may say what on each. Control (control.ts)
// gives it what the transport reports, and learns here which peers are told records.
// Invariants
//   1. A connection is in one stage at a time and never goes back, but for a newcomer that begins again as a member:
//      handshake (key and certificate are proved) → vestibule (the trust sets become equal) → admitted (records flow).
//      A frame is read by the part of its stage, and dropped when there is no such part.
//   2. Only a peer that stands in the trust set is admitted; one that falls later is turned away by the next `judge`.
//   3. A decision that took time counts for the connection on which it was asked, and never for a later one.
//   4. Every refusal, of this agent or of the peer, is counted, told in the events, and ends the connection.
import type { Crypto } from '../../core/model/crypto.ts'
import type { Origin } from '../../core/model/values.ts'
import type { Rejection } from '../../core/trust/door/codes.ts'
import { rejectionOf } from '../../core/trust/door/fallen.ts'
import { leafRejection } from '../../core/trust/door/leaf.ts'
import {
  ANSWER_FRAME_BYTES_MAX,
  decodeDoorFrame,
  encodeReject,
  isReject
} from '../../core/trust/door/frames.ts'
import type { HandshakeSelf } from '../../core/trust/door/handshake.ts'
import type { HandshakeOutcome as Verdict } from '../../core/trust/door/port.ts'
import { isTrustFrame } from '../../core/trust/exchange/exchange.ts'
import { openCredential, type Credential } from '../../core/trust/members/credential.ts'
import type { KeyId } from '../../core/trust/set/ids.ts'
import type { MeshRoots } from '../../core/trust/set/mesh-roots.ts'
import type { Invite } from '../../core/trust/set/statement.ts'
import type { Transport } from '../../io/p2p/transport.ts'
import type { Log } from '../observe/log.ts'
import type { GatewayDoor, Shows } from './control-options.ts'
import type { NewEvent } from './events.ts'
import {
  Handshakes,
  type ConnectionInfo,
  type HandshakeOutcome,
  type HandshakeRefusal
} from './handshakes.ts'
import type { MeshTrust } from './mesh-trust.ts'
import { Neighbourhood } from './neighbourhood.ts'
import { Settled } from './settled.ts'
import { Sponsor } from './sponsor.ts'
import { Vestibule, type Admittance } from './vestibule.ts'

interface LinksOptions {
  readonly crypto: Crypto
  readonly origin: Origin
  readonly nodeSeed: Uint8Array
  readonly roots: MeshRoots
  /** Ed25519 seed of the cluster key at the start, 32 bytes: it signs the knock of a newcomer, and the admissions of others. */
  readonly clusterSeed: Uint8Array
  /** What this agent shows of itself at the start; `show` replaces it. */
  readonly shows: Shows
  readonly software: string
  readonly log: Log
  readonly trust: MeshTrust
  readonly transport: () => Pick<Transport, 'setAuthenticated' | 'disconnect'>
  readonly send: (peer: Origin, frame: Uint8Array) => void
  /** Why the prefixes of a newcomer's invite cannot be used beside the networks of hosts; undefined when they can. */
  readonly underlayFault: (invite: Invite) => Promise<string | undefined>
  /** On a newcomer that was admitted: writes the item, and returns the credential to show from now on. */
  readonly onAdmitted: (clusterItem: Uint8Array) => Promise<Uint8Array>
  /** The invites of further gateways of this cluster; without it there are none. */
  readonly gateways?: GatewayDoor
  /** A peer is told records from now on. `frames` are those of replication that it has sent already. */
  readonly onUp: (peer: Origin, frames: readonly Uint8Array[]) => void
  readonly onHandshake: (outcome: HandshakeOutcome) => void
  /** A connection was refused; `reason` begins with the code, and `line` is for the log. */
  readonly onRefused: (peer: Origin, what: Pick<NewEvent, 'reason' | 'line'>) => void
}

/** See the head of this file. */
export class Links {
  /** The peers that are admitted. */
  readonly neighbours = new Neighbourhood()
  readonly #options: LinksOptions
  readonly #handshakes: Handshakes
  readonly #vestibule: Vestibule
  readonly #sponsor: Sponsor
  /** All connections, also those whose peer has not proved itself yet. */
  readonly #open = new Map<Origin, ConnectionInfo>()
  #shows: Shows
  #clusterSeed: Uint8Array
  /** The credential of this agent; undefined while it is a newcomer. */
  #own: Credential | undefined
  /** The version of the members for which the neighbours were last judged. */
  #judgedVersion = -1
  readonly #settled = new Settled()

  constructor(options: LinksOptions) {
    const { roots, trust, send } = options
    const { members } = trust
    this.#options = options
    this.#shows = options.shows
    this.#clusterSeed = options.clusterSeed
    if (options.shows.kind === 'member') this.show(options.shows.credential, options.clusterSeed)
    this.#handshakes = new Handshakes({
      ...options,
      meshId: roots.meshId,
      shows: () => this.#showsInHandshake(),
      door: {
        openCredential: (bytes) => openCredential(members.set, bytes),
        openItem: (bytes) => members.set.open(bytes),
        verdictOn: (credential) => members.verdictOn(credential),
        knowsGateway: (key, peer) => options.gateways?.knows(key, peer) === true
      },
      send,
      onVerdict: (peer, info, verdict) => this.#decide(peer, info, verdict)
    })
    this.#sponsor = new Sponsor({
      ...options,
      clusterSeed: () => this.#clusterSeed,
      credential: () => this.#own,
      skews: () => this.#skewsByCluster()
    })
    this.#vestibule = new Vestibule({
      trust,
      onAdmitted: (peer, admittance) => this.#admit(peer, admittance),
      onRefused: (peer, refused) => this.#turnAway(peer, refused)
    })
  }

  /** The transport has opened a connection. */
  begin(peer: Origin, info: ConnectionInfo): void {
    this.#open.set(peer, info)
    this.#handshakes.begin(peer, info)
  }

  /**
   * Takes a frame, and returns true; false when it is for the replication with an admitted peer.
   */
  receive(peer: Origin, frame: Uint8Array): boolean {
    if (this.#handshakes.receive(peer, frame)) return true
    const isWaiting = this.#vestibule.has(peer)
    // What comes after a refusal, while the connection ends, is nothing that counts.
    if (!isWaiting && this.neighbours.get(peer) === undefined) return true
    if (isTrustFrame(frame)) this.#options.trust.receive(peer, frame)
    else if (isReject(frame)) this.#rejected(peer, frame)
    else if (isWaiting) this.#vestibule.keep(peer, frame)
    else return false
    return true
  }

  /** The trust sets of this agent and the peer are equal. */
  inStep(peer: Origin): void {
    this.#vestibule.inStep(peer)
  }

  /** The connection has ended. Returns whether the peer was admitted. */
  end(peer: Origin): boolean {
    this.#open.delete(peer)
    this.#handshakes.end(peer)
    this.#vestibule.end(peer)
    this.#options.trust.peerDown(peer)
    return this.neighbours.remove(peer)
  }

  tick(nowMs: number): void {
    this.#vestibule.tick(nowMs)
  }

  /**
   * Turns away the neighbours that do not stand any more. Returns whether the members have changed since they were last
   * judged. `isOwn`: this agent has made the change, so there is nothing to wait for (settled.ts).
   */
  judge(isOwn: boolean): boolean {
    const { trust, origin } = this.#options
    const { members } = trust
    if (members.version === this.#judgedVersion) return false
    if (!isOwn && !this.#settled.look(members.version)) return false
    // The own credential is kept only when the set knows the sponsor, whose admission may have come just now.
    if (this.#own !== undefined && !members.isAdmitted(origin)) trust.addCredential(this.#own)
    this.#judgedVersion = members.version
    for (const peer of this.neighbours.origins()) {
      const verdict = members.verdictOn(peer)
      if (verdict.kind !== 'stands') this.#turnAway(peer, rejectionOf(members.set, verdict))
    }
    return true
  }

  /** See Sponsor.succeed: the present key of this cluster admits the one that replaces it. */
  succeed(...asked: Parameters<Sponsor['succeed']>): ReturnType<Sponsor['succeed']> {
    return this.#sponsor.succeed(...asked)
  }

  /**
   * Shows this credential in all later handshakes; `clusterSeed` is that of the key which has certified it. Throws an Error
   * when it does not verify.
   */
  show(credential: Uint8Array, clusterSeed: Uint8Array): void {
    const { trust } = this.#options
    const own = openCredential(trust.members.set, credential)
    if (own.kind === 'refused') throw new Error(`our own ${own.statement} does not verify: ${own.reason}`)
    this.#own = own
    this.#clusterSeed = clusterSeed
    this.#shows = { kind: 'member', credential }
    trust.addCredential(own)
  }

  /** Why the latest handshake with this member was refused; undefined: it was accepted, or none was lately. */
  refusal(origin: Origin): HandshakeRefusal | undefined {
    return this.#handshakes.refusal(origin)
  }

  #decide(peer: Origin, info: ConnectionInfo, verdict: Verdict): void {
    const { trust, transport } = this.#options
    switch (verdict.kind) {
      case 'refused':
        trust.learn(verdict.explain)
        return this.#refuse(peer, verdict)
      case 'knock':
        return void this.#answer(peer, info, verdict)
      case 'gatewayKnock':
        return void this.#answerGateway(peer, info, verdict)
      case 'admitted':
        return void this.#becomeMember(peer, info, verdict)
      case 'accepted': {
        const leaf = leafRejection(this.#own, verdict.credential)
        if (leaf !== undefined) return this.#turnAway(peer, { ...leaf, explain: [] })
        transport().setAuthenticated(peer)
        this.#vestibule.enter(peer, info, verdict.credential, verdict.clockSkewSeconds)
        return trust.peerUp(peer, verdict.trustHead)
      }
      default:
        verdict satisfies never
    }
  }

  /** As the sponsor of the peer, a newcomer. */
  async #answer(
    peer: Origin,
    info: ConnectionInfo,
    knock: Extract<Verdict, { kind: 'knock' }>
  ): Promise<void> {
    const answer = await this.#sponsor.answer(knock)
    if (this.#open.get(peer) !== info) return
    this.#handshakes.answer(peer, answer)
    if (answer.kind === 'reject') this.#refuse(peer, { ...answer, byPeer: false, proved: false })
  }

  /** The peer has the token of one more gateway of this cluster. It connects again as a member when it has the key. */
  async #answerGateway(
    peer: Origin,
    info: ConnectionInfo,
    knock: Extract<Verdict, { kind: 'gatewayKnock' }>
  ): Promise<void> {
    const { gateways, transport } = this.#options
    const answer = await gateways?.answer(peer, knock)
    if (answer === undefined || this.#open.get(peer) !== info) return
    this.#handshakes.answer(peer, answer)
    if (answer.kind === 'reject') this.#refuse(peer, { ...answer, byPeer: false, proved: false })
    else transport().disconnect(peer, 'it has the key of this cluster, and connects again as a member')
  }

  /** The peer has let this newcomer in, which begins again on the same connection, as a member. */
  async #becomeMember(
    peer: Origin,
    info: ConnectionInfo,
    { bytes, item, sponsor, sponsorItem }: Extract<Verdict, { kind: 'admitted' }>
  ): Promise<void> {
    const { log, trust, onAdmitted, transport } = this.#options
    try {
      const credential = await onAdmitted(bytes)
      trust.learn([...(sponsorItem === undefined ? [] : [sponsorItem]), item])
      trust.addCredential(sponsor)
      this.show(credential, this.#clusterSeed)
      if (this.#open.get(peer) === info) this.#handshakes.begin(peer, info)
    } catch (error) {
      log.error({ err: error }, 'the admission of this cluster could not be written')
      transport().disconnect(peer, 'the admission could not be written')
    }
  }

  /** The peer has proved itself, the trust sets are equal, and it stands. */
  #admit(peer: Origin, { info, credential, skewSeconds, frames }: Admittance): void {
    const { log, onUp, onHandshake } = this.#options
    const { cluster } = credential
    log.info({ peer, cluster, address: info.address }, 'neighbour up')
    this.#handshakes.accepted(peer)
    this.neighbours.add(peer, info, skewSeconds)
    onUp(peer, frames)
    onHandshake({ kind: 'accepted', peer, cluster })
  }

  /** The peer does not stand: it is told why, with the statements that say so. */
  #turnAway(peer: Origin, refused: Rejection & { readonly explain: readonly Uint8Array[] }): void {
    this.#options.send(peer, encodeReject(refused, refused.explain, ANSWER_FRAME_BYTES_MAX))
    this.#refuse(peer, { ...refused, byPeer: false, proved: true })
  }

  /** A peer that has proved itself refuses this agent, which does not stand in the peer's set. */
  #rejected(peer: Origin, frame: Uint8Array): void {
    const message = decodeDoorFrame(frame, ANSWER_FRAME_BYTES_MAX)
    if (message.kind !== 'reject') return
    const { trust } = this.#options
    const { set } = trust.members
    trust.learn(message.explain.map((item) => set.open(item)).filter((item) => item.kind === 'item'))
    this.#refuse(peer, { code: message.code, detail: message.detail, byPeer: true, proved: true })
  }

  #refuse(peer: Origin, refusal: Omit<HandshakeRefusal, 'atMs'> & { readonly proved: boolean }): void {
    const { onHandshake, onRefused, transport } = this.#options
    const { code, detail, byPeer, proved } = refusal
    this.#vestibule.end(peer)
    this.#handshakes.refused(peer, { code, detail, byPeer })
    const line = { text: 'handshake refused', fields: { code, detail, byPeer } }
    onRefused(peer, { reason: `handshake ${code}: ${detail}`, line })
    onHandshake({ kind: 'refused', peer, code, detail, byPeer, proved })
    transport().disconnect(peer, detail)
  }

  #showsInHandshake(): HandshakeSelf['shows'] {
    const shows = this.#shows
    return shows.kind === 'newcomer'
      ? { ...shows, clusterSeed: this.#clusterSeed }
      : { ...shows, trustHead: this.#options.trust.head() }
  }

  /** Seconds by which the clocks of neighbours of other clusters are ahead of this host's. */
  #skewsByCluster(): ReadonlyMap<KeyId, readonly number[]> {
    const { trust, origin } = this.#options
    const own = trust.members.agentOf(origin)?.clusterKey
    const skews = new Map<KeyId, number[]>()
    for (const [peer, skew] of this.neighbours.skews()) {
      const key = trust.members.agentOf(peer)?.clusterKey
      if (key !== undefined && key !== own) skews.set(key, [...(skews.get(key) ?? []), skew])
    }
    return skews
  }
}
