// One failure stays one failure, as a property: whatever subset of operations a host refuses, all else is done.
import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { Pass, type Desired } from '../../../src/app/host/pass.ts'
import { HOST_PARTS, type HostOp, type HostPart, type HostState } from '../../../src/core/host/host-state.ts'
import { opKey, partOf } from '../../../src/core/host/host-ops.ts'
import { normalizeHost } from '../../../src/core/host/normalize.ts'
import type { Cidr, ClusterName, Ip, PeerAddress, WireguardKey } from '../../../src/core/model/values.ts'
import { plan } from '../../../src/core/host/plan.ts'
import { RETRY_MS_MAX } from '../../../src/core/host/retries.ts'
import { FakeHost } from './fake-host.ts'

/** A mesh of `n` clusters with both families; cluster i has i services. */
function mesh(n: number): HostState {
  const clusters = Array.from({ length: n }, (_, index) => index + 1)
  const dual = (octet: number) => [`10.${octet}.0.0/16` as Cidr, `fd00:${octet}::/64` as Cidr]
  return normalizeHost({
    tunnel: { device: 'rz0', listenPort: 51820, mtu: 1420, publicKey: 'self' as WireguardKey },
    peers: clusters.map((i) => ({
      publicKey: `peer${i}` as WireguardKey,
      peerAddress: `192.0.2.${i}:51820` as PeerAddress,
      allowedIps: dual(i),
      keepaliveSeconds: 15
    })),
    routes: clusters.flatMap((i) => dual(i).map((destination) => ({ destination, source: undefined }))),
    vips: clusters.map((i) => ({ destination: `10.1${i}.0.0/16` as Cidr, source: undefined })),
    virtualServers: clusters.flatMap((i) =>
      Array.from({ length: i }, (_, port) => ({
        vip: `10.1${i}.0.1` as Ip,
        protocol: 'TCP' as const,
        port: port + 1,
        scheduler: 'rr' as const,
        affinitySeconds: 0,
        realServers: [{ ip: `10.${i}.0.9` as Ip, port: 80, weight: 1 }]
      }))
    ),
    filter: {
      remoteSources: clusters.flatMap(dual),
      localDestinations: dual(99),
      probePort: 0,
      mtu: 1420,
      guardedVips: clusters.map((i) => `10.1${i}.0.0/16` as Cidr)
    },
    sysctls: [
      { name: 'net.ipv4.ip_forward', value: '1' },
      { name: 'net.ipv6.conf.all.forwarding', value: '1' }
    ]
  })
}

const states = fc.integer({ min: 0, max: 4 }).map(mesh)
const signal = new AbortController().signal

class Clock {
  ms = 0
  readonly now = () => this.ms
}

function passes(host: FakeHost) {
  const clock = new Clock()
  const pass = new Pass({ host, drainMs: 0, now: clock.now })
  const run = async (want: HostState, more: Partial<Desired> = {}) => {
    clock.ms += RETRY_MS_MAX
    return pass.run({ want, keeps: [], ...more }, signal)
  }
  return { clock, pass, run }
}

/** Operations that by the rules of host-ops.ts may have to wait for one that was refused. */
function mayWait(op: HostOp, refused: ReadonlySet<string>): boolean {
  const tunnel = refused.has('setTunnel')
  const filter = refused.has('setFilter')
  if (op.kind === 'setPeer' || op.kind === 'addRoute') return tunnel || filter
  return op.kind === 'addVip' && filter
}

describe('a pass', () => {
  it('does everything but what the host refuses, and all of it once the host refuses no more', async () => {
    await fc.assert(
      fc.asyncProperty(states, states, fc.infiniteStream(fc.boolean()), async (before, want, coins) => {
        const host = new FakeHost()
        host.state = before
        const planned = plan(want, before)
        const refused = new Set(planned.filter(() => coins.next().value === true).map(opKey))
        host.refuses = (op) => (refused.has(opKey(op)) ? new Error('refused') : undefined)
        const { run, pass } = passes(host)
        for (let round = 0; round < 3; round += 1) await run(want)
        for (const op of plan(want, host.state))
          assert.ok(refused.has(opKey(op)) || mayWait(op, refused), `left undone: ${opKey(op)}`)
        for (const { op } of pass.failures.steps) assert.ok(refused.has(opKey(op)))
        host.refuses = () => undefined
        for (let round = 0; round < 2; round += 1) await run(want)
        assert.deepEqual(plan(want, host.state), [])
        assert.deepEqual(pass.failures, { steps: [], parts: [] })
        assert.deepEqual((await run(want)).done, [])
      }),
      { numRuns: 300 }
    )
  })

  it('does everything in the parts of the host whose tools answer', async () => {
    await fc.assert(
      fc.asyncProperty(states, states, fc.subarray([...HOST_PARTS]), async (before, want, parts) => {
        const host = new FakeHost()
        host.state = before
        const { run, pass } = passes(host)
        const hangs = Object.assign(new Error('no answer'), { code: 'TOOL_TIMEOUT', tool: 'tool' })
        for (const part of parts) host.hanging.set(part, hangs)
        await run(want)
        const dead: ReadonlySet<HostPart> = new Set(parts)
        const basis = new Set(
          (['setTunnel', 'setFilter'] as const).filter((kind) =>
            dead.has(kind === 'setTunnel' ? 'tunnel' : 'filter')
          )
        )
        for (const op of plan(want, host.state))
          assert.ok(dead.has(partOf(op)) || mayWait(op, basis), `left undone: ${opKey(op)}`)
        assert.deepEqual(new Set(pass.failures.parts.map(({ part }) => part)), dead)
        host.hanging.clear()
        for (let round = 0; round < 2; round += 1) await run(want)
        assert.deepEqual(plan(want, host.state), [])
        assert.deepEqual(pass.failures.parts, [])
      }),
      { numRuns: 200 }
    )
  })

  it('lets no peer, route or service address in before the filter, and loses none that is there', async () => {
    const host = new FakeHost()
    host.refuses = (op) => (op.kind === 'setFilter' ? new Error('refused') : undefined)
    const { run } = passes(host)
    await run(mesh(2))
    assert.deepEqual([host.state.peers, host.state.routes, host.state.vips], [[], [], []])
    assert.equal(host.state.virtualServers.length, 3)
    host.refuses = () => undefined
    await run(mesh(2))
    host.refuses = (op) => (op.kind === 'setFilter' ? new Error('refused') : undefined)
    await run(mesh(3))
    // The filter that is there denies what is new by default; only the new service address would be open to processes of the host.
    assert.equal(host.state.peers.length, 3)
    assert.equal(host.state.vips.length, 2)
  })

  it('takes no network of the host’s own into the tunnel where its exception is refused, neither when it comes nor when it goes', async () => {
    const host = new FakeHost()
    const lan = { destination: '10.2.7.0/24' as Cidr, source: undefined, kind: 'throw' as const }
    const port = { ...lan, destination: '10.12.7.0/24' as Cidr }
    const want = normalizeHost({
      ...mesh(2),
      routes: [...mesh(2).routes, lan],
      vips: [...mesh(2).vips, port]
    })
    const isException = (op: HostOp) =>
      ('route' in op && op.route.kind === 'throw') || ('vip' in op && op.vip.kind === 'throw')
    const destinations = () =>
      [...host.state.routes, ...host.state.vips].map(({ destination }) => destination)
    host.refuses = (op) => (isException(op) ? new Error('refused') : undefined)
    const { run } = passes(host)
    for (let round = 0; round < 3; round += 1) {
      await run(want)
      assert.deepEqual(destinations(), ['10.1.0.0/16', 'fd00:1::/64', 'fd00:2::/64', '10.11.0.0/16'])
    }
    host.refuses = () => undefined
    for (let round = 0; round < 2; round += 1) await run(want)
    assert.deepEqual(plan(want, host.state), [])
    host.refuses = (op) =>
      !isException(op) && (op.kind === 'removeRoute' || op.kind === 'removeVip')
        ? new Error('refused')
        : undefined
    await run(mesh(0))
    assert.ok(destinations().includes(lan.destination) && destinations().includes(port.destination))
  })

  it('keeps the own services going while the device cannot be made', async () => {
    const host = new FakeHost()
    host.refuses = (op) => (op.kind === 'setTunnel' ? new Error('port taken') : undefined)
    const { run, pass } = passes(host)
    await run(mesh(2))
    assert.equal(host.state.vips.length, 2)
    assert.equal(host.state.virtualServers.length, 3)
    assert.deepEqual(
      pass.failures.steps.map(({ op }) => op.kind),
      ['setTunnel']
    )
  })

  it('tries a refused operation again with growing patience, and at once when it sets something else', async () => {
    const host = new FakeHost()
    let tries = 0
    host.refuses = (op) => {
      if (op.kind !== 'setSysctl') return undefined
      tries += 1
      return new Error('read-only')
    }
    const clock = new Clock()
    const pass = new Pass({ host, drainMs: 0, now: clock.now })
    const desired = (value: string): Desired => ({
      want: { ...mesh(0), sysctls: [{ name: 'net.ipv4.ip_forward', value }] },
      keeps: []
    })
    for (; clock.ms < 60_000; clock.ms += 100) await pass.run(desired('1'), signal)
    assert.ok(tries >= 7 && tries <= 10, `${tries} tries in a minute`)
    const before = tries
    await pass.run(desired('2'), signal)
    assert.equal(tries, before + 1)
  })

  it('does the clusters with the least work first, and makes way between two of them', async () => {
    const host = new FakeHost()
    const { run } = passes(host)
    const clusterOf = (op: HostOp): ClusterName | undefined =>
      op.kind === 'setVirtualServer'
        ? (`c${op.virtualServer.vip.split('.')[1]}` as ClusterName)
        : op.kind === 'addVip'
          ? (`c${op.vip.destination.split('.')[1]}` as ClusterName)
          : undefined
    await run(mesh(4), { clusterOf })
    const order = host.applied
      .flat()
      .filter(({ kind }) => kind === 'addVip')
      .map(clusterOf)
    assert.deepEqual(order, ['c11', 'c12', 'c13', 'c14'])
    const other = new FakeHost()
    const pass = new Pass({ host: other, drainMs: 0, now: () => 0 })
    const half = await pass.run({ want: mesh(4), keeps: [], clusterOf }, signal, () => true)
    assert.ok(half.isInterrupted)
    while ((await pass.run({ want: mesh(4), keeps: [], clusterOf }, signal, () => true)).isInterrupted);
    assert.deepEqual(plan(mesh(4), other.state), [])
  })
})
