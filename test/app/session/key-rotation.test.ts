import assert from 'node:assert/strict'
import type { WireguardKey } from '../../../src/core/model/values.ts'
import { wireguardKeyOfEd25519 } from '../../../src/core/trust/tunnel-key.ts'
import { base64, bytes } from '../../../src/app/identity/encoding.ts'
import { KeyRotation } from '../../../src/app/session/key-rotation.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import type { Identity } from '../../../src/io/store/store.ts'

const crypto = createCrypto()
const keyOf = (seed: string) => wireguardKeyOfEd25519(crypto.publicKeyOf(bytes(seed)))

/** A store, a device and a mesh. The device takes its key when `take` is called, or at each mark. */
class World {
  identity: Identity = { nodeSeed: base64(crypto.random(32)), tunnelSeed: base64(crypto.random(32)) }
  device: WireguardKey = keyOf(this.identity.tunnelSeed)
  takesAtOnce = true
  neighbours = 1
  hasDevice = true
  /** Each step in order: the key on disk, in the device or in the record. */
  readonly steps: string[] = []
  readonly rotation = this.session()

  session(): KeyRotation {
    const rotation: KeyRotation = new KeyRotation({
      crypto,
      deadlineMs: 50,
      store: {
        identity: () => this.identity,
        changeIdentity: async (change) => {
          this.identity = change(this.identity)
          this.steps.push(`disk ${keyOf(this.identity.tunnelSeed)}`)
          return this.identity
        }
      },
      control: {
        view: () =>
          ({ self: 'west', clusters: new Map(['west', 'east'].map((name) => [name, {}])) }) as never,
        neighbours: () => Array.from({ length: this.neighbours }, () => 'x') as never
      },
      programmed: () => ({
        mark: () => (this.takesAtOnce ? this.take() : undefined),
        reconciler: (this.hasDevice ? { have: { tunnel: { publicKey: this.device } } } : undefined) as never
      }),
      publish: async () => {
        this.steps.push(`record ${keyOf(base64(rotation.seed))}`)
      }
    })
    return rotation
  }

  take(): void {
    this.device = keyOf(this.identity.tunnelSeed)
    this.steps.push(`device ${this.device}`)
  }
}

describe('a rotation of the tunnel key', () => {
  it('goes from the disk to the device to the record, and keeps all other keys', async () => {
    const world = new World()
    const before = world.identity
    const rotation = await world.rotation.rotate()
    const key = keyOf(world.identity.tunnelSeed)
    assert.deepEqual(rotation, { before: keyOf(before.tunnelSeed), wireguardKey: key, isPending: false })
    assert.notEqual(key, rotation.before)
    assert.deepEqual(world.steps, [`disk ${key}`, `device ${key}`, `record ${key}`])
    assert.deepEqual({ ...world.identity, tunnelSeed: before.tunnelSeed }, before)
    await world.rotation.follow()
    assert.equal(world.steps.length, 3, 'nothing more to do')
  })

  it('without a data plane waits for no device', async () => {
    const world = new World()
    Object.assign(world, { hasDevice: false, takesAtOnce: false })
    assert.equal((await world.rotation.rotate()).isPending, false)
    assert.match(world.steps[1] ?? '', /^record/)
  })

  it('of which the device takes no key keeps the old one in the record until it does', async () => {
    const world = new World()
    world.takesAtOnce = false
    const seed = base64(world.rotation.seed)
    assert.equal((await world.rotation.rotate()).isPending, true)
    assert.equal(base64(world.rotation.seed), seed)
    await assert.rejects(world.rotation.rotate(), { code: 'KEY_CHANGING' })
    await world.rotation.follow()
    assert.equal(world.steps.length, 1, 'only the disk')
    world.take()
    await world.rotation.follow()
    assert.deepEqual(
      world.steps.map((step) => step.split(' ')[0]),
      ['disk', 'device', 'record']
    )
    assert.equal(base64(world.rotation.seed), world.identity.tunnelSeed)
  })

  it('is refused while no member would hear of it, and changes nothing', async () => {
    const world = new World()
    world.neighbours = 0
    await assert.rejects(world.rotation.rotate(), { code: 'NO_MEMBER' })
    assert.deepEqual(world.steps, [])
  })

  it('that was killed after the disk goes on with the new key alone', async () => {
    const world = new World()
    world.takesAtOnce = false
    await world.rotation.rotate()
    const again = world.session()
    assert.equal(base64(again.seed), world.identity.tunnelSeed)
    world.takesAtOnce = true
    assert.equal((await again.rotate()).isPending, false)
  })
})
