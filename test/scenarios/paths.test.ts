// Ways between clusters that break while the control plane goes on: what is said of them, and what becomes of traffic.
import assert from 'node:assert/strict'
import type { RoutesAnswer } from '../../src/api/answers.ts'
import { serviceIp } from '../demo/checks.ts'
import { podAddress, wanAddress, type Cluster, type Site } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { look, peer, raise, reaches, status, undisturbed, unite } from './harness.ts'

describe('a way between two clusters that breaks', function () {
  const { site } = raise('paths', ['west', 'east', 'edge'])
  const west = () => site('west')
  const east = () => site('east')
  const edge = () => site('edge')

  before(async () => {
    await unite(west(), east(), edge())
    for (const [from, to] of [
      [west(), east()],
      [west(), edge()],
      [east(), west()]
    ] as const) {
      await reaches(from, to)
      await eventually(async () => (await peer(from, to.cluster))?.state === 'up')
    }
  })
  afterEach(async () => {
    for (const each of [west(), east(), edge()])
      await each.gateway.exec(['nft', 'delete', 'table', 'inet', 'scenario'], { check: false })
    for (const [from, to] of [
      [west(), east()],
      [east(), west()]
    ] as const) {
      await eventually(async () => (await peer(from, to.cluster))?.state === 'up', 30_000)
      await reaches(from, to)
    }
  })

  const fault = async (at: Site, code: string) =>
    ((await status(at)).health?.faults ?? []).find((each) => each.code === code)
  const names = async (at: Site) =>
    (await at.pod(0).resolve('web.shop.svc.cluster.all')).addresses?.toSorted() ?? []

  it('UDP blocked, TCP open: the cause is named, cluster.all leaves it out, and connections to its services and pods are refused at once', async () => {
    await undisturbed(west(), edge(), async () => {
      await drop(west(), `ip saddr ${wanAddress('east')} udp sport 51820`)
      await drop(east(), `ip saddr ${wanAddress('west')} udp sport 51820`)
      await eventually(async () => (await peer(west(), 'east'))?.state === 'down', 15_000)
      await eventually(async () => !(await names(west())).includes(serviceIp.east))
      assert.deepEqual(await names(west()), [serviceIp.west, serviceIp.edge].toSorted())
      await eventually(async () => {
        for (const [address, port] of [
          [serviceIp.east, 80],
          [podAddress('east', 0), 8080]
        ] as const) {
          const { error, ms } = await west().pod(0).tcp(address, port, { timeoutMs: 2000 })
          assert.match(error ?? '', /^(ECONNREFUSED|EHOSTUNREACH)$/, address)
          assert.ok(ms < 1000, `${address} after ${ms} ms`)
        }
        return true
      })
      const said = await fault(west(), 'CLUSTER_DOWN')
      assert.equal(said?.subject, 'east')
      assert.match(
        said.message,
        new RegExp(`UDP 51820 to ${wanAddress('east')} gets no answer; TCP control works`)
      )
      assert.match(said.fix, /let UDP 51820 pass/)
      const { routes } = await look<RoutesAnswer>(west(), 'routes')
      for (const row of routes.filter(({ cluster }) => cluster === 'east')) {
        assert.equal(row.state, 'withdrawn')
        assert.match(row.reason ?? '', /refused at once/)
      }
      assert.equal(await fault(west(), 'ALL_CLUSTERS_DOWN'), undefined)
    })
  })

  it('one direction of UDP dropped: neither side says up', async () => {
    await drop(east(), `ip saddr ${wanAddress('west')} udp sport 51820`)
    for (const [from, to] of [
      [west(), 'east'],
      [east(), 'west']
    ] as const)
      await eventually(async () => (await peer(from, to))?.state === 'down', 20_000)
  })

  it('everything to all clusters blocked: the first thing that status says is critical, and what to do', async () => {
    await drop(west(), 'iifname wan0 udp sport 51820')
    await eventually(
      async () => (await status(west())).health?.faults[0]?.code === 'ALL_CLUSTERS_DOWN',
      20_000
    )
    const [worst] = (await status(west())).health?.faults ?? []
    assert.equal(worst?.severity, 'critical')
    assert.ok(worst.fix.length > 20)
  })

  it('all control connections lost, tunnels up: said, nothing withdrawn', async () => {
    await undisturbed(west(), east(), async () => {
      await drop(west(), 'iifname wan0 tcp dport 7946')
      await drop(west(), 'iifname wan0 tcp sport 7946')
      await eventually(async () => (await fault(west(), 'CONTROL_LOST')) !== undefined, 40_000)
      assert.equal((await peer(west(), 'east'))?.state, 'up')
      assert.equal(await fault(west(), 'CLUSTER_DOWN'), undefined)
    })
  })

  it('its agent killed: the tunnel stays up, since the kernel behind it answers, and traffic flows on', async () => {
    await undisturbed(west(), east(), async () => {
      await east().stop('SIGKILL')
      await eventually(async () => /but its agent does not/.test((await peer(west(), 'east'))?.reason ?? ''))
      assert.equal((await peer(west(), 'east'))?.state, 'up')
      await east().start()
    })
  })

  it('a path that carries 1,400 bytes and sends no ICMP: bulk passes both ways after a while, and it is said', async () => {
    for (const [at, from] of [
      [west(), 'east'],
      [east(), 'west']
    ] as const)
      await drop(at, `ip saddr ${wanAddress(from)} ip length > 1400`)
    const narrow = async (at: Site, to: Cluster) => {
      await eventually(async () => (await fault(at, 'PATH_MTU')) !== undefined, 60_000)
      assert.match((await fault(at, 'PATH_MTU'))?.message ?? '', new RegExp(`path to ${to}-gw`))
    }
    await Promise.all([narrow(west(), 'east'), narrow(east(), 'west')])
    for (const [from, to] of [
      [west(), east()],
      [east(), west()]
    ] as const)
      await eventually(async () => (await bulk(from, to)) === BULK_BYTES, 20_000)
  })
})

const BULK_BYTES = 300_000

/** So many bytes from a pod of `to` to a pod of `from`, and how many came. */
async function bulk(from: Site, to: Site): Promise<number> {
  const server = `require('net').createServer((socket) => socket.end(Buffer.alloc(${BULK_BYTES}))).listen(9000, () => console.log('listening'))`
  const client = `let bytes = 0
const socket = require('net').connect(9000, '${to.pod(0).address}')
socket.setTimeout(4000, () => socket.destroy())
socket.on('data', (data) => (bytes += data.length)).on('error', () => undefined).on('close', () => console.log(bytes))`
  const serving = to.pod(0).namespace.spawn([process.execPath, '-e', server])
  await new Promise((resolve) => serving.stdout?.once('data', resolve))
  try {
    const { stdout } = await from.pod(0).namespace.exec([process.execPath, '-e', client])
    return Number(stdout)
  } finally {
    serving.kill()
  }
}

/** Packets that come to this gateway and match, before anything else sees them. */
async function drop(at: Site, match: string): Promise<void> {
  await at.gateway.exec(['nft', '-f', '-'], {
    input: `table inet scenario {
      chain prerouting { type filter hook prerouting priority -400; ${match} drop; }
    }
    `
  })
}
