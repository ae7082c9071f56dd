// Ways between clusters that break while the control plane goes on: what is said of them, and what becomes of traffic.
import assert from 'node:assert/strict'
import type { EventsAnswer, RoutesAnswer } from '../../src/api/answers.ts'
import type { PingAnswer } from '../../src/api/diagnosis-answers.ts'
import { serviceIp } from '../demo/checks.ts'
import { podAddress, wanAddress, type Cluster, type Site } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { startFlow, type FlowResult } from '../lab/support/counted-flow.ts'
import { done, fault, look, onPath, peer, raise, reaches, status, undisturbed, unite } from './harness.ts'

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
      await eventually(async () => {
        const row = await peer(from, to.cluster)
        return row?.state === 'up' && row.path === 'direct'
      }, 90_000)
      await reaches(from, to)
    }
  })

  const names = async (at: Site) =>
    (await at.pod(0).resolve('web.shop.svc.cluster.all')).addresses?.toSorted() ?? []

  it('UDP blocked, then open again: the tunnel goes over TCP and back, no flow ends, and each command says it', async () => {
    const flows = await Promise.all([
      startFlow(west().pod(0).namespace, east().pod(0), FLOW_RATE),
      startFlow(east().pod(1).namespace, west().pod(1), FLOW_RATE)
    ])
    let results: readonly FlowResult[]
    try {
      await undisturbed(west(), edge(), async () => {
        await drop(west(), `ip saddr ${wanAddress('east')} udp sport 51820`)
        await drop(east(), `ip saddr ${wanAddress('west')} udp sport 51820`)
        await onPath('tcp', west(), east())
        await reaches(west(), east())
        const row = await peer(west(), 'east')
        // The end that notices it first says the former, the other end the latter.
        assert.match(
          row?.pathReason ?? '',
          /^(UDP 51820 to 203\.0\.113\.12 gets no answer|east-gw gets no answer to its UDP, and sends over the control connection)$/
        )
        assert.match(row?.endpoint ?? '', /^203\.0\.113\.12:\d+$/)
        const said = await fault(west(), 'PATH_TCP')
        assert.equal(said?.subject, 'east east-gw')
        assert.match(said.fix, /let UDP 51820 pass/)
        assert.equal(await fault(west(), 'CLUSTER_DOWN'), undefined)
        // One answer of three: on a busy machine an answer may come later than ping waits for it.
        const pinged = await west().ask<PingAnswer>('ping', 'east', '-c', '3')
        assert.deepEqual(
          pinged.gateways.map(({ path, received }) => [path, received > 0]),
          [['tcp', true]]
        )
        const why = await done(west().ctl('why', podAddress('east', 0)))
        assert.match(why.stdout, /its tunnel is up over tcp \((UDP 51820|east-gw gets no answer)/)
      })
      await drop(west())
      await drop(east())
      await onPath('direct', west(), east())
      await reaches(west(), east())
    } finally {
      results = await Promise.all(flows.map((flow) => flow.end()))
    }
    for (const { sent, lost, lostTcp } of results) {
      process.stderr.write(`    ${lost.length} of ${sent} datagrams lost: ${gaps(lost)}\n`)
      assert.equal(lostTcp, 0)
    }
    const { events } = await west().ask<EventsAnswer>('events', '--cluster', 'east')
    const kinds = events.filter(({ kind }) => kind === 'path').map(({ reason }) => reason.split(':')[0])
    assert.deepEqual([kinds[0], kinds.at(-1)], ['tcp', 'direct'])
    const counted = await west().gateway.exec(['curl', '-s', '127.0.0.1:9465/metrics'])
    for (const direction of ['in', 'out'])
      assert.match(
        counted.stdout,
        new RegExp(
          `rhizome_path_datagrams_total\\{path="tcp",direction="${direction}",result="carried"\\} [1-9]`
        )
      )
  })

  it('UDP dropped in one direction: both sides go over TCP, and back', async () => {
    await drop(east(), `ip saddr ${wanAddress('west')} udp sport 51820`)
    await onPath('tcp', west(), east())
    await reaches(west(), east())
    await reaches(east(), west())
    await drop(east())
    await onPath('direct', west(), east())
  })

  it('UDP and TCP blocked: the cause is named, cluster.all leaves it out, and connections to its services and pods are refused at once', async () => {
    await undisturbed(west(), edge(), async () => {
      await drop(west(), `ip saddr ${wanAddress('east')}`)
      await drop(east(), `ip saddr ${wanAddress('west')}`)
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
      await eventually(async () => {
        const said = await fault(west(), 'CLUSTER_DOWN')
        assert.equal(said?.subject, 'east')
        assert.match(
          said.message,
          new RegExp(`${wanAddress('east')} answers this host neither by UDP nor by TCP`)
        )
        return true
      })
      const { routes } = await look<RoutesAnswer>(west(), 'routes')
      for (const row of routes.filter(({ cluster }) => cluster === 'east')) {
        assert.equal(row.state, 'withdrawn')
        assert.match(row.reason ?? '', /refused at once/)
      }
      assert.equal(await fault(west(), 'ALL_CLUSTERS_DOWN'), undefined)
    })
  })

  it('everything to all clusters blocked: the first thing that status says is critical, and what to do', async () => {
    await drop(west(), 'iifname wan0')
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
/** Packets a second, in each direction. */
const FLOW_RATE = 100

/** The runs of lost numbers: "12-340 (3.3 s), 900-910 (0.1 s)". */
function gaps(lost: readonly number[]): string {
  const runs: [number, number][] = []
  for (const number of lost) {
    const last = runs.at(-1)
    if (last !== undefined && number - last[1] <= 5) last[1] = number
    else runs.push([number, number])
  }
  return runs.map(([from, to]) => `${from}-${to} (${((to - from + 1) / FLOW_RATE).toFixed(1)} s)`).join(', ')
}

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

/** Drops the packets that come to this gateway and match, before anything else sees them. Without a match: none any more. */
async function drop(at: Site, match?: string): Promise<void> {
  if (match === undefined) return void (await at.gateway.exec(['nft', 'delete', 'table', 'inet', 'scenario']))
  await at.gateway.exec(['nft', '-f', '-'], {
    input: `table inet scenario {
      chain prerouting { type filter hook prerouting priority -400; ${match} drop; }
    }
    `
  })
}
