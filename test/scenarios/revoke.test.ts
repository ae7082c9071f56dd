// One gateway of a cluster is revoked by its PeerId: by an administrator of another cluster, and by its own cluster, which needs
// no administrator. Its packets are dropped and its connections end; the other gateway of the cluster carries on.
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { PeersAnswer } from '../../src/api/answers.ts'
import { createIdentity } from '../../src/app/identity/identity.ts'
import { sharedOf, withShared } from '../../src/app/identity/shared-identity.ts'
import { createCrypto } from '../../src/io/crypto/crypto.ts'
import { decodeIdentity, encodeIdentity } from '../../src/io/store/identity.ts'
import { serviceCidr, type Site } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { done, init, joins, look, raise, reaches, refused, status } from './harness.ts'

const crypto = createCrypto()
// The pods of both hosts of the cluster east: 10.2.0.0/24 on the host east, 10.3.0.0/24 on the host edge.
const POD_CIDR = '10.2.0.0/15'
/** The address of each gateway in the tunnel. */
const ADDRESS = { west: '10.1.0.1', east: '10.2.0.1', edge: '10.3.0.1' }

describe('one agent of a cluster is revoked', () => {
  const { site } = raise('revoke', ['west', 'east', 'edge'], { start: false })
  const west = () => site('west')
  const east = () => site('east')
  const edge = () => site('edge')

  before(async () => {
    await Promise.all([west().start(), east().start()])
    await init(west())
    const prefixes = ['--pod-cidr', POD_CIDR, '--service-cidr', serviceCidr('east')]
    await joins(east(), (await done(west().ctl('invite', 'east', ...prefixes))).stdout.trim())
    await becomeSecondGateway()
  })

  afterEach(async () => {
    await edge().stop('SIGKILL')
    await becomeSecondGateway()
  })

  it('by an administrator of another cluster', async () => {
    const { peerId = '' } = await status(edge())
    const said = await without(() => done(west().ctl('revoke', peerId)))
    assert.match(said.stdout, new RegExp(`^Revoked the agent ${peerId} of cluster east`))
    await reaches(west(), east())
  })

  it('by the other gateway of its own cluster, which holds no seat; and no gateway revokes itself', async () => {
    const [{ peerId = '' }, own] = [await status(edge()), await status(east())]
    assert.match(await refused(east().ctl('revoke', own.peerId ?? '')), /this is this agent itself/)
    assert.match(
      await refused(east().ctl('revoke', (await status(west())).peerId ?? '')),
      /holds no seat of an administrator/
    )
    await without(() => done(east().ctl('revoke', peerId)))
    assert.match(await refused(east().ctl('revoke', peerId)), /no agent with the PeerId .* stands here/)
    await reaches(west(), east())
  })

  /**
   * Does this, and expects that all members drop the agent on the host edge, while the tunnel between the hosts east and west
   * loses nothing.
   */
  async function without<T>(revoke: () => Promise<T>): Promise<T> {
    const { peerId = '', wireguardKey = '' } = await status(edge())
    assert.ok((await wireguardPeers(west())).includes(wireguardKey))
    const ended = new AbortController()
    const failed: string[] = []
    let asked = 0
    const asking = (async () => {
      while (!ended.signal.aborted) {
        asked++
        if (!(await pings(east(), west()))) failed.push(`ping ${asked}`)
      }
    })()
    let said: T
    try {
      said = await revoke()
      for (const member of [west(), east()])
        await eventually(async () => {
          const { peers } = await look<PeersAnswer>(member, 'peers')
          return !peers.some((row) => row.peerId === peerId)
        })
      await eventually(async () => !(await wireguardPeers(west())).includes(wireguardKey))
      await eventually(async () => !(await pings(edge(), west())))
      await eventually(async () => (await status(edge())).connections === 0)
    } finally {
      ended.abort()
      await asking
    }
    assert.deepEqual(failed, [], `of ${asked} pings from the other gateway`)
    return said
  }

  /** Starts an agent with new keys on the host edge, which has the cluster key of east as gateways have it by the Secret. */
  async function becomeSecondGateway(): Promise<void> {
    const file = decodeIdentity(readFileSync(join(east().state, 'identity.json'), 'utf8'))
    assert.ok(file.kind === 'ok')
    const secret = sharedOf(file.identity, crypto)
    const identity = withShared(createIdentity(crypto), secret, { crypto, nowMs: Date.now() })
    rmSync(edge().state, { recursive: true, force: true })
    mkdirSync(edge().state, { mode: 0o700 })
    const path = join(edge().state, 'identity.json')
    writeFileSync(path, encodeIdentity(identity, path), { mode: 0o600 })
    await edge().start()
    await eventually(async () => {
      const { peers } = await look<PeersAnswer>(west(), 'peers')
      const { peerId } = await status(edge())
      const row = peers.find((one) => one.peerId === peerId)
      assert.equal(row?.cluster, 'east')
      assert.equal(row.state, 'up')
      return true
    }, 60_000)
    await eventually(() => pings(edge(), west()))
    await eventually(() => pings(east(), west()))
  }
})

/** Whether a packet from one gateway's address in the tunnel to another's is answered within 2 s. */
async function pings(from: Site, to: Site): Promise<boolean> {
  const source = ADDRESS[from.cluster]
  const argv = ['ping', '-c', '1', '-W', '2', '-I', source, ADDRESS[to.cluster]]
  return (await from.gateway.exec(argv, { check: false })).exitCode === 0
}

/** The public keys of the WireGuard peers of a host. */
async function wireguardPeers({ gateway, device }: Site): Promise<readonly string[]> {
  const { stdout } = await gateway.exec(['wg', 'show', device, 'peers'])
  return stdout.trim().split('\n')
}
