// The identity of this agent: its Ed25519 seed, from which the PeerId follows, and the seed of its tunnel key. It is made at the
// first start, kept in the store, and made anew after the agent has left a mesh, so that no membership shares a PeerId
// with an earlier one.
import type { Crypto } from '../../core/model/crypto.ts'
import type { WireguardKey } from '../../core/model/values.ts'
import { wireguardKeyOfEd25519 } from '../../core/trust/tunnel-key.ts'
import type { Identity, Store } from '../../io/store/store.ts'
import { bytes } from './encoding.ts'
import { createIdentity } from './identity.ts'

type IdentityStore = Pick<Store, 'identity' | 'saveIdentity'>

/**
 * Gives the identity to the other parts. One per process. It reads the identity from the store each time, because other
 * parts may change it there; the store has it in memory.
 */
export class NodeIdentity {
  readonly #store: IdentityStore
  readonly #crypto: Crypto
  /** The latest seed of the tunnel key in base64, and the key of WireGuard that follows from it. */
  #tunnel: Tunnel
  #making: Promise<Identity> | undefined

  private constructor(store: IdentityStore, crypto: Crypto, identity: Identity) {
    this.#store = store
    this.#crypto = crypto
    this.#tunnel = tunnelOf(crypto, identity.tunnelSeed)
  }

  /** Reads the identity, or makes one and saves it. Called once, at the start of the agent. Errors: StoreError. */
  static async open(store: IdentityStore, crypto: Crypto): Promise<NodeIdentity> {
    const known = store.identity()
    if (known !== undefined) return new NodeIdentity(store, crypto, known)
    const fresh = createIdentity(crypto)
    await store.saveIdentity(fresh)
    return new NodeIdentity(store, crypto, fresh)
  }

  /** The public key of the tunnel, base64. It changes with the seed: after `leave`, and after a rotation of the key. */
  get wireguardKey(): WireguardKey {
    const seed = this.#store.identity()?.tunnelSeed
    if (seed !== undefined && seed !== this.#tunnel.seed) this.#tunnel = tunnelOf(this.#crypto, seed)
    return this.#tunnel.wireguardKey
  }

  /**
   * Returns the identity, and makes a new one when the store has none, as after `leave`. A new identity is on disk
   * before its first use, so that a crash cannot lose a PeerId that others have seen. Errors: StoreError.
   */
  async current(): Promise<Identity> {
    const known = this.#store.identity()
    if (known !== undefined) return known
    // Callers during the write share one promise: with two identities, the tunnel and the certificate could have keys
    // of different ones.
    this.#making ??= this.#make().finally(() => (this.#making = undefined))
    return this.#making
  }

  async #make(): Promise<Identity> {
    const fresh = createIdentity(this.#crypto)
    await this.#store.saveIdentity(fresh)
    return fresh
  }
}

interface Tunnel {
  readonly seed: string
  readonly wireguardKey: WireguardKey
}

function tunnelOf(crypto: Crypto, seed: string): Tunnel {
  return { seed, wireguardKey: wireguardKeyOfEd25519(crypto.publicKeyOf(bytes(seed))) }
}
