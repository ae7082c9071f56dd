// The identity of this agent on disk: made at the first start, and made anew after the agent has left a mesh.
import type { Crypto } from '../../core/model/crypto.ts'
import type { WireguardKey } from '../../core/model/values.ts'
import { wireguardPublicKey } from '../../io/crypto/crypto.ts'
import type { Identity, Store } from '../../io/store/store.ts'
import { bytes } from './encoding.ts'
import { createIdentity } from './identity.ts'

type IdentityStore = Pick<Store, 'identity' | 'saveIdentity'>

export class NodeIdentity {
  readonly #store: IdentityStore
  readonly #crypto: Crypto
  #wireguardKey: WireguardKey
  #making: Promise<Identity> | undefined

  private constructor(store: IdentityStore, crypto: Crypto, identity: Identity) {
    this.#store = store
    this.#crypto = crypto
    this.#wireguardKey = wireguardKeyOf(identity)
  }

  /** Errors: of the store. */
  static async open(store: IdentityStore, crypto: Crypto): Promise<NodeIdentity> {
    const known = store.identity()
    if (known !== undefined) return new NodeIdentity(store, crypto, known)
    const fresh = createIdentity(crypto)
    await store.saveIdentity(fresh)
    return new NodeIdentity(store, crypto, fresh)
  }

  /** The public key of the tunnel. */
  get wireguardKey(): WireguardKey {
    return this.#wireguardKey
  }

  /** A new identity is on disk before its first use. Errors: of the store. */
  async current(): Promise<Identity> {
    const known = this.#store.identity()
    if (known !== undefined) return known
    // One for all callers while it is being written: the tunnel's key and the certificate must be of one identity.
    this.#making ??= this.#make().finally(() => (this.#making = undefined))
    return this.#making
  }

  async #make(): Promise<Identity> {
    const fresh = createIdentity(this.#crypto)
    await this.#store.saveIdentity(fresh)
    this.#wireguardKey = wireguardKeyOf(fresh)
    return fresh
  }
}

function wireguardKeyOf(identity: Identity): WireguardKey {
  return wireguardPublicKey(bytes(identity.wireguardPrivateKey)) as WireguardKey
}
