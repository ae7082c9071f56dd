import assert from 'node:assert/strict'
import { createFakeCrypto } from './fake-crypto.ts'
import { Mesh } from './mesh.ts'
import { wanLatencyMs } from './regions.ts'
import {
  FAULTS,
  repeatCommand,
  serviceChange as change,
  storm,
  stormOfSeed,
  type StormOptions,
  type StormResult
} from './storm.ts'

const SEEDS = Number(process.env['SIM_SEEDS'] ?? 30)
const FIRST_SEED = Number(process.env['SIM_SEED'] ?? 1)

describe('a mesh under faults shows only folds of what was published, and agrees once they stop', function () {
  it('with all connected', () => void storms({ shape: 'full' }))
  it('with neighbours in a line connected', () => void storms({ shape: 'line' }))
  it('with an overlay and trees', () => void storms({ shape: 'tree' }))
  it('with machines that stand still and come back, whom nobody takes for dead in the end', () =>
    void storms({ shape: 'tree', faults: new Set(['stall', 'link', 'undialable', 'slow', 'clock']) }))
  it('with agents that are killed and start again, whom nobody takes for dead in the end', () =>
    void storms({ shape: 'tree', faults: new Set(['kill']) }))
  it('with agents that miss more deletions than anyone remembers', () => {
    const results = storms({ faults: new Set(['floor', 'loss']) })
    assert.ok(results.some(({ pastFloor }) => pastFloor > 0))
  })
  it('with agents of three versions, upgraded and set back', () => {
    const results = storms({ faults: new Set(['schema', 'loss']) })
    assert.ok(results.some(({ unknownKinds }) => unknownKinds > 0))
  })
  it('with all faults at once', () => void storms({ faults: new Set(FAULTS) }))
})

function storms(given: Partial<StormOptions>): readonly StormResult[] {
  const results: StormResult[] = []
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    const options = stormOfSeed(seed, given)
    try {
      results.push(storm(options))
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause)
      throw new Error(`seed ${seed} (repeat: ${repeatCommand(options)}): ${message}`, { cause })
    }
  }
  return results
}

describe('a mesh', () => {
  it('carries a change to every agent in one delay when all are connected', () => {
    const mesh = new Mesh({ seed: 1, agents: 5 })
    mesh.settle(5000)
    const [agent] = mesh.agents
    assert.ok(agent)
    mesh.publish(agent, [change('web', 1)])
    assert.ok(mesh.settle(1000) <= 200)
  })

  it('carries a change from A to C over B, with the credential of A', () => {
    const mesh = new Mesh({ seed: 1, agents: 3, linked: (left, right) => Math.abs(left - right) === 1 })
    const [a, , c] = mesh.agents
    assert.ok(a && c)
    mesh.publish(a, [change('web', 1)])
    mesh.settle(5000)
    assert.equal(c.protocol.records(a.origin).size, 1)
    assert.equal(c.protocol.lag(a.origin), 0)
    assert.ok(c.disk.origins.get(a.origin)?.credential)
  })

  it('lets an agent with a wiped store start a new epoch', () => {
    const mesh = new Mesh({ seed: 1, agents: 3 })
    const [agent, other] = mesh.agents
    assert.ok(agent && other)
    mesh.publish(agent, [change('web', 1), change('api', 1)])
    mesh.settle(5000)
    mesh.kill(agent)
    mesh.start(agent, 'wiped')
    mesh.publish(agent, [change('db', 1)])
    mesh.run(3000)
    mesh.settle(5000)
    assert.equal(agent.protocol.heads().find(({ origin }) => origin === agent.origin)?.epoch, 2)
    assert.deepEqual([...other.protocol.records(agent.origin).keys()], ['svc/shop/db'])
  })

  it('gives a whole state, and nothing deleted, to who missed more deletions than anyone remembers', () => {
    for (const back of ['killed', 'alone'] as const) {
      const limits = { tombstonesMax: 3, batchesBurst: 100 }
      const linked = (left: number, right: number) => Math.abs(left - right) === 1
      const mesh = new Mesh({ seed: 1, agents: 3, limits, linked })
      const [writer, relay, laggard] = mesh.agents
      assert.ok(writer && relay && laggard)
      const names = Array.from({ length: 8 }, (_, index) => `s${index}`)
      for (const name of names) mesh.publish(writer, [change(name, 1)])
      mesh.settle(5000)
      if (back === 'killed') mesh.kill(laggard)
      else mesh.sendAway(laggard)
      for (const name of names.slice(0, 3))
        mesh.publish(writer, [{ key: `svc/shop/${name}`, value: undefined }])
      mesh.run(2000)
      // What is in memory goes on from its seq; so many deletions are still known.
      if (back === 'alone') {
        mesh.letBack(laggard)
        mesh.settle(5000)
        assert.equal(mesh.pastFloor, 0)
        mesh.sendAway(laggard)
      }
      for (const name of names.slice(3, 7))
        mesh.publish(writer, [{ key: `svc/shop/${name}`, value: undefined }])
      mesh.run(2000)
      if (back === 'killed') mesh.start(laggard)
      else mesh.letBack(laggard)
      mesh.settle(5000)
      assert.equal(mesh.pastFloor, 1)
      assert.deepEqual([...laggard.protocol.records(writer.origin).keys()], ['svc/shop/s7'])
      assert.equal(mesh.refused.get('state hash mismatch'), undefined)
    }
  })

  it('gives up a silent neighbour after ten seconds', () => {
    const mesh = new Mesh({ seed: 1, agents: 2 })
    mesh.run(5000)
    const [left, right] = mesh.agents
    assert.ok(left && right)
    assert.ok((left.protocol.rtt(right.origin) ?? 0) > 0)
    mesh.die(right)
    mesh.run(9000)
    assert.deepEqual(left.aborted, [])
    mesh.run(3000)
    assert.deepEqual(
      left.aborted.map(({ peer }) => peer),
      [right.index]
    )
  })

  it('brings a newcomer a large state by credit, and another goes on where one died', () => {
    const limits = { partBytes: 500, windowsBytesMax: 2000, directMax: 0 }
    const mesh = new Mesh({ seed: 1, agents: 4, limits })
    const [writer, relay, newcomer] = mesh.agents
    assert.ok(writer && relay && newcomer)
    mesh.kill(newcomer)
    mesh.publish(
      writer,
      Array.from({ length: 400 }, (_, index) => change(`s${index}`, 1))
    )
    mesh.settle(3000)
    mesh.start(newcomer, 'wiped')
    mesh.resetTraffic()
    while (newcomer.protocol.load().stagingBytes < 8000) mesh.run(5)
    for (const agent of [writer, relay]) if (agent.sent.deltas > 3) mesh.kill(agent)
    assert.ok(mesh.agents.some(({ up }) => !up))
    assert.ok(mesh.settle(1500) > 0)
    assert.equal(newcomer.protocol.records(writer.origin).size, 400)
    const state = [...newcomer.protocol.records(writer.origin)].reduce(
      (sum, [key, { value }]) => sum + key.length + value.length + 16,
      0
    )
    const deltas = mesh.agents.reduce((sum, { sent }) => sum + sent.deltas, 0)
    assert.ok(deltas <= state / 500 + 12, `${deltas} parts for ${state} bytes`)
  })

  it('goes on with a large state where it was killed, and shows nothing of it before it is whole', () => {
    const limits = { partBytes: 500, windowsBytesMax: 2000 }
    const mesh = new Mesh({ seed: 1, agents: 2, limits })
    const [writer, newcomer] = mesh.agents
    assert.ok(writer && newcomer)
    mesh.kill(newcomer)
    mesh.publish(
      writer,
      Array.from({ length: 400 }, (_, index) => change(`s${index}`, 1))
    )
    mesh.start(newcomer, 'wiped')
    mesh.resetTraffic()
    for (const heldBytes of [4000, 8000, 12_000]) {
      while (newcomer.protocol.load().stagingBytes < heldBytes) mesh.run(5)
      mesh.kill(newcomer)
      mesh.start(newcomer)
      assert.equal(newcomer.protocol.records(writer.origin).size, 0)
    }
    mesh.publish(writer, [{ key: 'svc/shop/s0', value: undefined }, change('s399', 2)])
    mesh.settle(5000)
    const bytes = [...newcomer.protocol.records(writer.origin)].reduce(
      (sum, [key, { value }]) => sum + key.length + value.length + 16,
      0
    )
    // A window is on its way whenever it is killed.
    const most = bytes / 500 + 3 * (2000 / 500 + 2) + 4
    assert.ok(writer.sent.deltas <= most, `${writer.sent.deltas} parts for ${bytes} bytes`)
    assert.deepEqual([mesh.partsRestored, mesh.partsAdopted], [3, 1])
    mesh.kill(newcomer)
    mesh.start(newcomer)
    assert.equal(newcomer.protocol.records(writer.origin).size, 399)
  })

  it('of many sees a death everywhere in ten seconds, and never one that is none', () => {
    const mesh = manyAgents(40)
    mesh.faults = { ...mesh.faults, loss: 0.05 }
    const [dead, paused, ...rest] = mesh.agents
    assert.ok(dead && paused)
    paused.stalledUntilMs = mesh.nowMs + 3000
    mesh.run(20_000)
    for (const agent of rest)
      for (const other of mesh.agents) assert.notEqual(agent.protocol.liveness(other.origin), 'dead')
    const held = rest[0]?.protocol.records(dead.origin).size
    mesh.die(dead)
    mesh.run(10_000)
    assert.deepEqual(
      rest.filter(({ protocol }) => protocol.liveness(dead.origin) !== 'dead').map(({ index }) => index),
      []
    )
    assert.equal(rest[0]?.protocol.records(dead.origin).size, held) // silence withdraws nothing
    mesh.kill(dead)
    mesh.start(dead)
    mesh.run(5000)
    assert.ok(rest.every(({ protocol }) => protocol.liveness(dead.origin) === 'alive'))
  })

  it('of many takes back a death whose refutation was lost on dying connections', () => {
    const mesh = manyAgents(20)
    const [paused, ...rest] = mesh.agents
    assert.ok(paused)
    paused.stalledUntilMs = mesh.nowMs + 9000
    mesh.run(9000) // it wakes, hears that it is dead, and says that it lives
    assert.ok(rest.some(({ protocol }) => protocol.liveness(paused.origin) === 'dead'))
    for (const other of rest) mesh.disconnect(paused, other)
    mesh.run(10_000)
    mesh.checkAlive()
  })

  it('of many carries a change along a tree: two copies an agent, hardly later than light', () => {
    const mesh = manyAgents(60)
    const [agent] = mesh.agents
    assert.ok(agent)
    for (const count of [2, 3]) {
      mesh.publish(agent, [change('boot', count)])
      mesh.run(1000)
    }
    mesh.resetTraffic()
    mesh.publish(agent, [change('boot', 4)])
    assert.ok(mesh.settle(400, 10) <= 250)
    const copies = mesh.agents.reduce((sum, { sent }) => sum + sent.deltas, 0)
    assert.ok(copies < 2.3 * mesh.agents.length, `${copies} copies`)
  })
})

function manyAgents(agents: number): Mesh {
  const mesh = new Mesh({
    seed: 1,
    agents,
    crypto: createFakeCrypto(),
    overlay: true,
    admitted: true,
    latencyMs: wanLatencyMs
  })
  mesh.chooseWithRoundTrips()
  for (const agent of mesh.agents) mesh.publish(agent, [change('boot', 1)])
  mesh.run(5000)
  return mesh
}
