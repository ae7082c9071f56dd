// The hand-over of one gateway against hosts that move at once, late or never.
import assert from 'node:assert/strict'
import { HandOver } from '../../../src/app/session/hand-over.ts'
import type { ClusterName, HandOver as Reason, Ip, Origin } from '../../../src/core/model/values.ts'

/** The gateway e1 of east, with the gateway e2 beside it and west at the other end of its tunnel. */
class World {
  hasOther = true
  hasMoved = true
  neighbours = 1
  lastPass: object | undefined = { ops: 1 }
  role: 'gateway' | 'node' = 'gateway'
  /** What was published, in order. */
  readonly published: (Reason | 'active')[] = []
  readonly faults = new Map<string, string>()
  readonly lines: string[] = []
  readonly handOver: HandOver = new HandOver({
    settings: { role: this.role },
    control: {
      origin: 'e1' as Origin,
      view: () => view(this.hasOther ? ['e1', 'e2'] : ['e1']),
      neighbour: () => undefined,
      neighbours: () => Array.from({ length: this.neighbours }) as never,
      liveness: () => 'alive'
    },
    health: {
      set: (code, { message }) => void this.faults.set(code, message),
      clear: (code) => void this.faults.delete(code)
    },
    log: {
      info: (_fields: object, text: string) => void this.lines.push(text),
      warn: (_fields: object, text: string) => void this.lines.push(text)
    } as never,
    reconciler: () => ({ last: this.lastPass }) as never,
    tunnel: () => 'up',
    saysMoved: () => this.hasMoved,
    publish: async () => void this.published.push(this.handOver.state ?? 'active'),
    msMax: 60
  })
}

function view(own: readonly string[]) {
  const agentOf = (name: string) => ({
    origin: name as Origin,
    agent: { role: 'gateway', node: name, tunnelAddress: `10.0.0.1` as Ip, probePort: 7, version: '0' }
  })
  return {
    self: 'east' as ClusterName,
    clusters: new Map([
      ['east', { name: 'east', agents: own.map(agentOf) }],
      ['west', { name: 'west', agents: [agentOf('w1')] }]
    ])
  } as never
}

describe('the hand-over of a gateway', () => {
  it('is announced by a drain, shown as a fault, and taken back by undrain only', async () => {
    const world = new World()
    await world.handOver.drain({ force: false })
    assert.deepEqual(world.published, ['drained'])
    assert.match(world.faults.get('GATEWAY_DRAINED') ?? '', /the other gateways of cluster east carry/)
    await world.handOver.follow()
    await world.handOver.drain({ force: false })
    assert.deepEqual(world.published, ['drained'], 'a second drain publishes nothing')
    world.hasOther = false
    await world.handOver.follow()
    assert.match(world.faults.get('GATEWAY_DRAINED') ?? '', /no other gateway that lives/)
    await world.handOver.undrain()
    assert.deepEqual(world.published, ['drained', 'active'])
    assert.deepEqual([...world.faults], [])
  })

  it('is refused without another gateway, unless the operator insists', async () => {
    const world = new World()
    world.hasOther = false
    await assert.rejects(world.handOver.drain({ force: false }), { code: 'ONLY_GATEWAY' })
    assert.deepEqual(world.published, [])
    await world.handOver.drain({ force: true })
    assert.deepEqual(world.published, ['drained'])
    assert.deepEqual(world.handOver.progress().takers, [])
  })

  it('of an earlier run stays when it was a drain, and ends when it was a stop: once the host is programmed', async () => {
    const drained = new World()
    drained.handOver.restore({ handOver: 'drained' })
    await drained.handOver.follow()
    assert.deepEqual([drained.handOver.state, drained.published], ['drained', []])
    const stopped = new World()
    stopped.lastPass = undefined
    stopped.handOver.restore({ handOver: 'stopping' })
    await stopped.handOver.follow()
    assert.equal(stopped.handOver.state, 'stopping', 'before the first pass')
    Object.assign(stopped, { lastPass: {}, neighbours: 0 })
    await stopped.handOver.follow()
    assert.equal(stopped.handOver.state, 'stopping', 'no member hears it')
    stopped.neighbours = 1
    await stopped.handOver.follow()
    assert.deepEqual([stopped.handOver.state, stopped.published], [undefined, ['active']])
  })

  it('before a stop waits until all have moved, for a bounded time, and not at all without another gateway', async () => {
    const moved = new World()
    await moved.handOver.beforeStop()
    assert.deepEqual(moved.published, ['stopping'])
    assert.match(moved.lines.at(-1) ?? '', /^handed the traffic over/)
    await moved.handOver.follow()
    assert.equal(moved.handOver.state, 'stopping', 'of this run')
    const late = new World()
    late.hasMoved = false
    await late.handOver.beforeStop()
    assert.match(late.lines.at(-1) ?? '', /^1 hosts have not said/)
    const alone = new World()
    alone.hasOther = false
    await alone.handOver.beforeStop()
    assert.deepEqual([alone.published, alone.lines], [[], []])
  })

  it('of a drained gateway is not announced anew before a stop, but is before a leave', async () => {
    const world = new World()
    await world.handOver.drain({ force: false })
    await world.handOver.beforeStop()
    assert.deepEqual(world.published, ['drained'])
    await world.handOver.beforeLeave()
    assert.deepEqual(world.published, ['drained', 'stopping'])
    assert.deepEqual([...world.faults], [])
  })
})
