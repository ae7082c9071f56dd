// Two clusters that reach each other neither by UDP nor by TCP, and a third one that reaches both and offers to relay.
import assert from 'node:assert/strict'
import type { EventsAnswer } from '../../src/api/answers.ts'
import type { PingAnswer } from '../../src/api/diagnosis-answers.ts'
import { podAddress, wanAddress, type Site } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { startFlow } from '../lab/support/counted-flow.ts'
import { done, fault, onPath, peer, raise, reaches, status, undisturbed, unite } from './harness.ts'

/** Mbit/s that edge relays: more than the flows of the test, and less than its bulk. */
const RELAY_RATE = 2

describe('a cluster that relays the tunnel of two others', function () {
  const { site } = raise('relay', ['west', 'east', 'edge'], { start: false })
  const west = () => site('west')
  const east = () => site('east')
  const edge = () => site('edge')

  before(async () => {
    await Promise.all([west().start(), east().start(), edge().start('--relay-rate', String(RELAY_RATE))])
    await unite(edge(), west(), east())
    for (const [from, to] of [
      [west(), east()],
      [east(), west()],
      [west(), edge()],
      [east(), edge()]
    ] as const) {
      await reaches(from, to)
      await eventually(async () => (await peer(from, to.cluster))?.state === 'up')
    }
  })

  /** Cuts all packets between the hosts of west and east, or those that match, at both; or none any more. */
  const cut = async (what: '' | 'meta l4proto udp' | undefined) => {
    for (const [at, from] of [
      [west(), 'east'],
      [east(), 'west']
    ] as const) {
      await at.gateway.exec(['nft', 'delete', 'table', 'inet', 'scenario'], { check: false })
      if (what === undefined) continue
      await at.gateway.exec(['nft', '-f', '-'], {
        input: `table inet scenario {
          chain prerouting { type filter hook prerouting priority -400; ip saddr ${wanAddress(from)} ${what} drop; }
        }
        `
      })
    }
  }
  const carried = async (at: Site, direction: 'in' | 'out', path: string, result = 'carried') => {
    const { stdout } = await at.gateway.exec(['curl', '-s', '127.0.0.1:9465/metrics'])
    const labels = `path="${path}",direction="${direction}",result="${result}"`
    return Number(new RegExp(`rhizome_path_datagrams_total\\{${labels}\\} (\\d+)`).exec(stdout)?.[1] ?? 0)
  }

  it('cut, opened for TCP, opened, and cut again: pods reach each other, no flow ends, and each command says the path', async () => {
    const flow = await startFlow(west().pod(0).namespace, east().pod(0), 50)
    try {
      await undisturbed(west(), edge(), async () => {
        await cut('')
        await onPath('relay:edge', west(), east())
        await reaches(west(), east())
        await reaches(east(), west())
        await says()
        await cut('meta l4proto udp')
        await onPath('tcp', west(), east())
        await reaches(west(), east())
        await cut(undefined)
        await onPath('direct', west(), east())
        await reaches(west(), east())
        await cut('')
        await onPath('relay:edge', west(), east())
        await reaches(east(), west())
      })
    } finally {
      const { sent, lost, lostTcp } = await flow.end()
      process.stderr.write(`    ${lost.length} of ${sent} datagrams lost\n`)
      assert.equal(lostTcp, 0)
    }
    const { events } = await west().ask<EventsAnswer>('events', '--cluster', 'east')
    const paths = events.filter(({ kind }) => kind === 'path').map(({ reason }) => reason.split(' ')[0])
    for (const path of ['relay:edge:', 'tcp:', 'direct:']) assert.ok(paths.includes(path), String(paths))
  })

  /** The tunnel is relayed: what the ends and the relay say of it. */
  async function says(): Promise<void> {
    const row = await peer(west(), 'east')
    assert.match(row?.pathReason ?? '', /^neither UDP 51820 to 203\.0\.113\.12 nor a control connection/)
    assert.match(row?.endpoint ?? '', /^203\.0\.113\.13:\d+$/)
    const said = await fault(west(), 'PATH_RELAY')
    assert.equal(said?.subject, 'east east-gw')
    assert.match(said.message, /goes over edge-gw of cluster edge/)
    assert.equal(await fault(west(), 'CLUSTER_DOWN'), undefined)
    const pinged = await west().ask<PingAnswer>('ping', 'east', '-c', '3')
    assert.deepEqual(
      pinged.gateways.map(({ path, received }) => [path, received > 0]),
      [['relay:edge', true]]
    )
    assert.match(
      (await done(west().ctl('why', podAddress('east', 0)))).stdout,
      /its tunnel is up over relay:edge/
    )
    assert.match((await west().ctl('doctor')).stdout, /answers over the relay edge-gw of cluster edge/)
    const { relays = [] } = await status(edge())
    assert.deepEqual(
      relays.map(({ clusters }) => clusters.toSorted()),
      [['east', 'west']]
    )
    assert.match((await done(edge().ctl('status'))).stdout, /Relays +the tunnels between east and west/)
    assert.ok((await carried(edge(), 'out', 'relayed')) > 0)
    for (const direction of ['in', 'out'] as const) assert.ok((await carried(west(), direction, 'relay')) > 0)
  }

  it('passes on no more than its rate, drops the rest, and keeps its own connections', async () => {
    await cut('')
    await onPath('relay:edge', west(), east())
    const seconds = 6
    const before = await received(east())
    await undisturbed(west(), edge(), async () => {
      await flood(west(), east(), seconds)
      await reaches(west(), edge())
    })
    const megabits = (((await received(east())) - before) * 8) / 1e6
    // The rate with one window more at each end; what other tunnels received meanwhile is small.
    assert.ok(megabits < RELAY_RATE * (seconds + 4) * 1.3, `${megabits} Mbit`)
    assert.ok((await carried(edge(), 'out', 'relayed', 'rate')) > 0)
    const row = await peer(west(), 'edge')
    assert.deepEqual([row?.connected, row?.state], [true, 'up'])
  })

  it('its agent killed: the tunnel is down, with the cause, and comes back with it', async () => {
    await cut('')
    await onPath('relay:edge', west(), east())
    await edge().stop('SIGKILL')
    await eventually(async () => (await peer(west(), 'east'))?.state === 'down', 60_000)
    await edge().start('--relay-rate', String(RELAY_RATE))
    await onPath('relay:edge', west(), east())
    await reaches(west(), east())
  })

  it('offers it no more: nothing is relayed', async () => {
    await edge().stop('SIGTERM')
    await edge().start()
    await cut('')
    await eventually(async () => (await peer(west(), 'east'))?.state === 'down', 60_000)
    const said = await fault(west(), 'CLUSTER_DOWN')
    assert.match(said?.fix ?? '', /relay-rate/)
    await cut(undefined)
    await onPath('direct', west(), east())
  })
})

/** Bytes that the tunnels of this gateway have received. */
async function received(at: Site): Promise<number> {
  const { stdout } = await at.gateway.exec(['wg', 'show', at.device, 'transfer'])
  return stdout
    .trim()
    .split('\n')
    .reduce((sum, line) => sum + Number(line.split('\t')[1]), 0)
}

/** Sends datagrams from a pod to a pod, many more than the relay passes on. */
async function flood(from: Site, to: Site, seconds: number): Promise<void> {
  const program = `const socket = require('dgram').createSocket('udp4')
const end = Date.now() + ${seconds * 1000}
const bytes = Buffer.alloc(1200)
const burst = () => {
  for (let count = 0; count < 20; count++) socket.send(bytes, 9, '${to.pod(0).address}')
  if (Date.now() < end) setTimeout(burst, 20)
  else socket.close()
}
burst()`
  await from.pod(0).namespace.exec([process.execPath, '-e', program])
}
