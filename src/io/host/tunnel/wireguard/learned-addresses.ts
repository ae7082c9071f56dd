// Decides which address of a peer counts: the one that was set, or the one that WireGuard learned from packets of the
// peer (roaming). A peer behind a NAT or with a new address is reached only at the learned address, so the learned one
// must not be overwritten while it works. Sockets of this agent on loopback, which stand for a peer whose datagrams it
// carries (core/host/tunnel-path.ts), count as no learned address: the agent decides by itself when they are used. wireguard.ts calls this class after each reading and each change of the
// device; the class keeps invariants 3 and 4 of wireguard.ts.
import { isCarrierAddress } from '../../../../core/host/tunnel-path.ts'
import type { WireguardPeer } from '../../../../core/host/host-state.ts'
import type { PeerAddress, WireguardKey } from '../../../../core/model/values.ts'
import type { WgPeer } from './wg-dump.ts'

/**
 * REJECT_AFTER_TIME of WireGuard (section 6 of its paper). A session ends 180 s after its handshake, so an address
 * whose last handshake is older is not in use.
 */
const HANDSHAKE_RECENT_SECONDS = 180
/** Keepalives come every 25 s by default. If nothing came for 40 s, the peer or this host has another address now. */
const HEARD_MS = 40_000

/** Addresses set and bytes received, for each peer of one device. */
export class LearnedAddresses {
  readonly #nowMs: () => number
  // The address that was set last for each peer; undefined: none was wanted. Bounded by the peers of the device.
  readonly #desired = new Map<WireguardKey, PeerAddress | undefined>()
  // Bytes received from each peer, and when the number last changed. Bounded by the peers of the device.
  readonly #heard = new Map<WireguardKey, { readonly rxBytes: number; readonly atMs: number }>()

  /** `nowMs` returns Unix milliseconds, because WireGuard gives the time of the last handshake in Unix seconds. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  /** Records a reading of the device. Call it after every reading. */
  heard(peers: readonly WgPeer[]): void {
    const known = new Set(peers.map(({ publicKey }) => publicKey))
    for (const key of this.#heard.keys()) if (!known.has(key)) this.#heard.delete(key)
    for (const { publicKey, rxBytes } of peers)
      if (this.#heard.get(publicKey)?.rxBytes !== rxBytes)
        this.#heard.set(publicKey, { rxBytes, atMs: this.#nowMs() })
  }

  /** Records that these peers were set with these addresses. */
  setDesired(peers: readonly WireguardPeer[]): void {
    for (const { publicKey, peerAddress } of peers) this.#desired.set(publicKey, peerAddress)
  }

  /** Forgets the addresses of removed peers. */
  forget(keys: Iterable<WireguardKey>): void {
    for (const key of keys) this.#desired.delete(key)
  }

  /** Forgets all addresses, because the device is removed. */
  forgetAll(): void {
    this.#desired.clear()
  }

  /** Forgets the addresses of all peers that are not in the list. */
  keepOnly(peers: readonly WgPeer[]): void {
    const known = new Set(peers.map(({ publicKey }) => publicKey))
    this.forget([...this.#desired.keys()].filter((key) => !known.has(key)))
  }

  /**
   * Returns the address that `observe` reports for a peer. While a learned address works, this is the address that was
   * set last, so that the plan has nothing to change; otherwise it is the address on the device. undefined: the peer is
   * desired without an address, or the device has none.
   */
  observed(peer: WgPeer): PeerAddress | undefined {
    if (!this.#desired.has(peer.publicKey)) return peer.peerAddress
    const desired = this.#desired.get(peer.publicKey)
    if (desired === undefined) return undefined
    return this.#isRecent(peer) && !isCarrierAddress(peer.peerAddress) ? desired : peer.peerAddress
  }

  /** Returns the peers to set, without an address where the device has learned another one that works. */
  withoutLearned(peers: readonly WireguardPeer[], live: readonly WgPeer[]): readonly WireguardPeer[] {
    const byKey = new Map(live.map((peer) => [peer.publicKey, peer]))
    return peers.map((peer) => {
      const now = byKey.get(peer.publicKey)
      const isLearned =
        now?.peerAddress !== undefined &&
        !isCarrierAddress(now.peerAddress) &&
        !isCarrierAddress(peer.peerAddress) &&
        this.#isRecent(now) &&
        now.peerAddress !== this.#desired.get(peer.publicKey)
      return isLearned ? { ...peer, peerAddress: undefined } : peer
    })
  }

  /**
   * Returns whether the address that the device has for this peer works: the last handshake is less than 180 s old, and
   * bytes came from the peer within 40 s.
   */
  #isRecent(peer: WgPeer): boolean {
    const nowMs = this.#nowMs()
    return (
      nowMs / 1000 - peer.lastHandshakeSeconds < HANDSHAKE_RECENT_SECONDS &&
      nowMs - (this.#heard.get(peer.publicKey)?.atMs ?? 0) < HEARD_MS
    )
  }
}
