import assert from 'node:assert/strict'
import type { WireguardPeer } from '../../../../../src/core/host/host-state.ts'
import type { Cidr, PeerAddress, WireguardKey } from '../../../../../src/core/model/values.ts'
import { HostError } from '../../../../../src/io/host/errors.ts'
import { hostNames, type Run } from '../../../../../src/io/host/ports.ts'
import { peerSection } from '../../../../../src/io/host/tunnel/wireguard/commands.ts'
import { createWireguard } from '../../../../../src/io/host/tunnel/wireguard/wireguard.ts'

const SECRET = 'cHJpdmF0ZXByaXZhdGVwcml2YXRlcHJpdmF0ZTEyMzQ='
const KEY = 'vpFHDVK3ND6l//DoQG5SpNx4GmYofhshf2buEM6P7C8=' as WireguardKey
const PEER = 'ATzx8gU/hYoSVMjCLzpRmxc4EACjRYfuc9j0y3gFMhM=' as WireguardKey
const NOW_SECONDS = 1_700_000_000
const signal = new AbortController().signal

/** A kernel with one WireGuard device and one peer, and every command that reached it. */
function fakeKernel() {
  const kernel = {
    exists: true,
    endpoint: '(none)',
    handshake: 0,
    rxBytes: 0,
    nowMs: NOW_SECONDS * 1000,
    commands: [] as string[],
    inputs: [] as string[],
    /** As `wg show all public-key` has it. */
    devices: '',
    run: (async (tool, args, options) => {
      const command = [tool, ...args].join(' ')
      if (command === 'ip -j -d link show dev wg0') {
        if (!kernel.exists) return { stdout: '', stderr: 'Device "wg0" does not exist.', exitCode: 1 }
        return answer('[{"ifname":"wg0","mtu":1420,"flags":["UP"],"linkinfo":{"info_kind":"wireguard"}}]')
      }
      if (command === 'wg show wg0 dump') {
        const peer = [
          PEER,
          '(none)',
          kernel.endpoint,
          '10.2.0.0/16',
          kernel.handshake,
          kernel.rxBytes,
          0,
          'off'
        ].join('\t')
        return answer(`${SECRET}\t${KEY}\t51820\t0x2000\n${peer}\n`)
      }
      if (command === 'wg show all public-key') return answer(kernel.devices)
      kernel.commands.push(command)
      if (command.startsWith('ip link add')) kernel.exists = true
      if (options?.stdin !== undefined) kernel.inputs.push(options.stdin)
      kernel.endpoint = /Endpoint = (\S+)/.exec(options?.stdin ?? '')?.[1] ?? kernel.endpoint
      return answer('')
    }) as Run
  }
  const wireguard = createWireguard({
    run: kernel.run,
    names: hostNames('wg0', () => []),
    privateKey: () => SECRET,
    addresses: [],
    implementation: 'kernel',
    nowMs: () => kernel.nowMs
  })
  const observed = async () => (await wireguard.observe(signal)).peers[0]?.peerAddress
  return { kernel, wireguard, observed }
}

const answer = (stdout: string) => ({ stdout, stderr: '', exitCode: 0 })

function peerAt(peerAddress: string | undefined): WireguardPeer {
  return {
    publicKey: PEER,
    peerAddress: peerAddress as PeerAddress | undefined,
    allowedIps: ['10.2.0.0/16' as Cidr],
    keepaliveSeconds: 0
  }
}

describe('the address of a WireGuard peer', () => {
  const DESIRED = '192.0.2.2:51820'
  const LEARNED = '198.51.100.7:4444'

  it('is the desired one while WireGuard roams with a handshake of less than 180 s', async () => {
    const { kernel, wireguard, observed } = fakeKernel()
    await wireguard.setPeers([peerAt(DESIRED)], signal)
    Object.assign(kernel, { endpoint: LEARNED, handshake: NOW_SECONDS - 179 })
    assert.equal(await observed(), DESIRED)
  })

  it("is the kernel's once the handshake is older, and the desired one is set again", async () => {
    const { kernel, wireguard, observed } = fakeKernel()
    await wireguard.setPeers([peerAt(DESIRED)], signal)
    Object.assign(kernel, { endpoint: LEARNED, handshake: NOW_SECONDS - 180 })
    assert.equal(await observed(), LEARNED)
    await wireguard.setPeers([peerAt(DESIRED)], signal)
    assert.equal(kernel.endpoint, DESIRED)
  })

  it('changes with a peer that is made anew while no handshake was answered, and never after one', async () => {
    for (const [handshake, removed] of [
      [0, 1],
      [NOW_SECONDS - 200, 0]
    ] as const) {
      const { kernel, wireguard } = fakeKernel()
      const removals = () =>
        kernel.commands.filter((command) => command.endsWith(`peer ${PEER} remove`)).length
      await wireguard.setPeers([peerAt(DESIRED)], signal)
      assert.equal(removals(), 0, 'a new peer')
      kernel.handshake = handshake
      await wireguard.setPeers([peerAt(DESIRED)], signal)
      assert.equal(removals(), 0, 'the same address')
      await wireguard.setPeers([peerAt(LEARNED)], signal)
      assert.equal(removals(), removed)
      assert.equal(kernel.endpoint, LEARNED)
    }
  })

  it('is not written over after a restart, and observed as desired from then on', async () => {
    const { kernel, wireguard, observed } = fakeKernel()
    Object.assign(kernel, { endpoint: LEARNED, handshake: NOW_SECONDS - 10 })
    assert.equal(await observed(), LEARNED)
    await wireguard.setPeers([peerAt(DESIRED)], signal)
    assert.equal(kernel.endpoint, LEARNED)
    assert.equal(await observed(), DESIRED)
  })

  it('is written over as soon as nothing was heard from there for 40 s, and not before, also after a restart', async () => {
    const { kernel, wireguard, observed } = fakeKernel()
    Object.assign(kernel, { endpoint: LEARNED, handshake: NOW_SECONDS - 10, rxBytes: 100 })
    await wireguard.setPeers([peerAt(DESIRED)], signal)
    kernel.nowMs += 30_000
    kernel.rxBytes += 32 // a keepalive
    assert.equal(await observed(), DESIRED)
    kernel.nowMs += 39_000
    assert.equal(await observed(), DESIRED)
    await wireguard.setPeers([peerAt(DESIRED)], signal)
    assert.equal(kernel.endpoint, LEARNED)
    kernel.nowMs += 1000
    assert.equal(await observed(), LEARNED)
    await wireguard.setPeers([peerAt(DESIRED)], signal)
    assert.equal(kernel.endpoint, DESIRED)
  })

  it('follows a changed desired address at once where the old desired address is what WireGuard uses', async () => {
    const { kernel, wireguard } = fakeKernel()
    await wireguard.setPeers([peerAt(DESIRED)], signal)
    kernel.handshake = NOW_SECONDS - 10
    await wireguard.setPeers([peerAt('192.0.2.3:51820')], signal)
    assert.equal(kernel.endpoint, '192.0.2.3:51820')
  })

  it('stays out of sight for a peer that dials us', async () => {
    const { kernel, wireguard, observed } = fakeKernel()
    await wireguard.setPeers([peerAt(undefined)], signal)
    Object.assign(kernel, { endpoint: LEARNED, handshake: 0 })
    assert.equal(await observed(), undefined)
  })
})

describe('the WireGuard edge', () => {
  it('passes the private key through stdin only, and returns it nowhere', async () => {
    const { kernel, wireguard } = fakeKernel()
    const tunnel = { device: 'wg0', listenPort: 51820, mtu: 1420, publicKey: KEY }
    const other = { ...tunnel, publicKey: PEER }
    await assert.rejects(wireguard.setTunnel(other, signal), (error) => {
      assert.ok(error instanceof HostError)
      assert.equal(error.code, 'KEY_MISMATCH')
      assert.doesNotMatch(`${error.message} ${error.stack}`, new RegExp(SECRET))
      return true
    })
    assert.deepEqual(kernel.inputs, [`${SECRET}\n`])
    assert.ok(kernel.commands.some((command) => command.startsWith('wg set wg0 fwmark 0x2000 private-key')))
    const seen = [await wireguard.observe(signal), await wireguard.stats(signal), kernel.commands]
    assert.doesNotMatch(JSON.stringify(seen), new RegExp(SECRET))
  })

  it('observes no device as no tunnel and no peers', async () => {
    const { kernel, wireguard } = fakeKernel()
    kernel.exists = false
    assert.deepEqual(await wireguard.observe(signal), { tunnel: undefined, peers: [] })
    await wireguard.removeTunnel(signal)
    assert.deepEqual(kernel.commands, [])
  })

  it('writes no setting with a line break', () => {
    assert.throws(() => peerSection(peerAt('192.0.2.2:1\nPostUp = x')), /line break/)
  })
})

describe('a WireGuard device of the kernel that has another name now', () => {
  const tunnel = { device: 'wg0', listenPort: 51820, mtu: 1420, publicKey: KEY }

  it('is known by our key and removed before a new one is made, as it has our port; others stay', async () => {
    const { kernel, wireguard } = fakeKernel()
    Object.assign(kernel, { exists: false, devices: `corp0\t${PEER}\nwas0\t${KEY}\n` })
    await wireguard.setTunnel(tunnel, signal)
    const links = kernel.commands.filter((command) => /^ip link (add|delete)/.test(command))
    assert.deepEqual(links, ['ip link delete dev was0', 'ip link add dev wg0 type wireguard'])
  })

  it('is not looked for while ours is there', async () => {
    const { kernel, wireguard } = fakeKernel()
    kernel.devices = `was0\t${KEY}\n`
    await wireguard.setTunnel(tunnel, signal)
    assert.ok(!kernel.commands.some((command) => command.startsWith('ip link delete')))
  })
})
