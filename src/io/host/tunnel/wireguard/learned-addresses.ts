// Which address of a peer counts: the one that was wished for, or the one that WireGuard learned from a handshake.
// Invariants 3 and 4 of wireguard.ts.
import type { WireguardPeer } from '../../../../core/host/host-state.ts'
import type { PeerAddress, WireguardKey } from '../../../../core/model/values.ts'
import type { WgPeer } from './wg-dump.ts'

/** WireGuard's own REJECT_AFTER_TIME: no session is older, so no address learned before it is in use. */
const HANDSHAKE_RECENT_SECONDS = 180
/** Keepalives come each 25 s by default: a peer that was heard from no more has moved, or this host has. */
const HEARD_MS = 40_000

export class LearnedAddresses {
  readonly #nowMs: () => number
  // The address last wished for, of each peer; bounded by the device's peers.
  readonly #wishes = new Map<WireguardKey, PeerAddress | undefined>()
  // Bytes received of each peer, and when they last grew; bounded by the device's peers.
  readonly #heard = new Map<WireguardKey, { readonly rxBytes: number; readonly atMs: number }>()

  /** `nowMs`: Unix milliseconds. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  /** Takes note of a reading of the device. */
  heard(peers: readonly WgPeer[]): void {
    const known = new Set(peers.map(({ publicKey }) => publicKey))
    for (const key of this.#heard.keys()) if (!known.has(key)) this.#heard.delete(key)
    for (const { publicKey, rxBytes } of peers)
      if (this.#heard.get(publicKey)?.rxBytes !== rxBytes)
        this.#heard.set(publicKey, { rxBytes, atMs: this.#nowMs() })
  }

  wished(peers: readonly WireguardPeer[]): void {
    for (const { publicKey, peerAddress } of peers) this.#wishes.set(publicKey, peerAddress)
  }

  forget(keys: Iterable<WireguardKey>): void {
    for (const key of keys) this.#wishes.delete(key)
  }

  forgetAll(): void {
    this.#wishes.clear()
  }

  /** Forgets the wishes for all other peers. */
  keepOnly(peers: readonly WgPeer[]): void {
    const known = new Set(peers.map(({ publicKey }) => publicKey))
    this.forget([...this.#wishes.keys()].filter((key) => !known.has(key)))
  }

  /** The address that a peer is observed with. */
  observed(peer: WgPeer): PeerAddress | undefined {
    if (!this.#wishes.has(peer.publicKey)) return peer.peerAddress
    const wish = this.#wishes.get(peer.publicKey)
    return wish === undefined || this.#isRecent(peer) ? wish : peer.peerAddress
  }

  /** The peers to set, without an address where the device has learned another one from a recent handshake. */
  withoutLearned(peers: readonly WireguardPeer[], live: readonly WgPeer[]): readonly WireguardPeer[] {
    const byKey = new Map(live.map((peer) => [peer.publicKey, peer]))
    return peers.map((peer) => {
      const now = byKey.get(peer.publicKey)
      const isLearned =
        now?.peerAddress !== undefined &&
        this.#isRecent(now) &&
        now.peerAddress !== this.#wishes.get(peer.publicKey)
      return isLearned ? { ...peer, peerAddress: undefined } : peer
    })
  }

  #isRecent(peer: WgPeer): boolean {
    const nowMs = this.#nowMs()
    return (
      nowMs / 1000 - peer.lastHandshakeSeconds < HANDSHAKE_RECENT_SECONDS &&
      nowMs - (this.#heard.get(peer.publicKey)?.atMs ?? 0) < HEARD_MS
    )
  }
}
