import assert from 'node:assert/strict'
import { keyOf, type ServiceValue } from '../../src/core/model.ts'
import { Mesh } from './mesh.ts'

const SEEDS = Number(process.env['SIM_SEEDS'] ?? 40)
const FIRST_SEED = Number(process.env['SIM_SEED'] ?? 1)

describe('a mesh under faults', function () {
  this.timeout(120_000)

  it('shows only folds of what was published, and agrees once the faults stop', () => {
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
      withSeed(seed, () => storm(new Mesh({ seed, agents: 2 + (seed % 4), limits: SMALL })))
    }
  })

  it('does the same when only neighbours in a line are connected', () => {
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
      const linked = (left: number, right: number) => Math.abs(left - right) === 1
      withSeed(seed, () => storm(new Mesh({ seed, agents: 4, linked, limits: SMALL })))
    }
  })
})

describe('a mesh', () => {
  it('carries a change to every agent in one delay when all are connected', () => {
    const mesh = new Mesh({ seed: 1, agents: 5 })
    mesh.settle(5000)
    const [agent] = mesh.agents
    assert.ok(agent)
    mesh.publish(agent, [change('web', 1)])
    assert.ok(mesh.settle(1000) <= 200)
  })

  it('carries a change from A to C over B, with the chain of A', () => {
    const mesh = new Mesh({ seed: 1, agents: 3, linked: (left, right) => Math.abs(left - right) === 1 })
    const [a, , c] = mesh.agents
    assert.ok(a && c)
    mesh.publish(a, [change('web', 1)])
    mesh.settle(5000)
    assert.equal(c.protocol.records(a.origin).size, 1)
    assert.equal(c.protocol.lag(a.origin), 0)
    assert.ok(c.disk.origins.get(a.origin)?.chain)
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

  it('gives up a silent neighbour after ten seconds', () => {
    const mesh = new Mesh({ seed: 1, agents: 2 })
    mesh.run(5000)
    const [left, right] = mesh.agents
    assert.ok(left && right)
    assert.ok((left.protocol.rtt(right.origin) ?? 0) > 0)
    const effects = left.protocol.tick(mesh.nowMs + 11_000)
    assert.deepEqual(
      effects.flatMap((effect) => (effect.kind === 'abort' ? [effect.peer] : [])),
      [right.origin]
    )
  })
})

// Small enough that parts, floors and refused shadows all happen.
const SMALL = { partBytes: 120, tombstonesMax: 3, pullsMax: 2 }

function storm(mesh: Mesh): void {
  const { random } = mesh
  mesh.storm()
  for (const agent of mesh.agents) mesh.publish(agent, [bootChange(agent.boots)])
  for (let step = 0; step < 60; step++) {
    const agent = random.pick(mesh.agents)
    const other = random.pick(mesh.agents)
    const dice = random.below(20)
    if (dice < 9) mesh.publish(agent, randomChanges(mesh), random.chance(0.05) ? random.below(3) : undefined)
    else if (dice < 11) mesh.disconnect(agent, other)
    else if (dice < 14) mesh.connect(agent, other)
    else if (dice < 15) mesh.backUp(agent)
    else if (dice < 17) mesh.kill(agent)
    else {
      mesh.start(agent, random.chance(0.7) ? 'kept' : random.chance(0.5) ? 'wiped' : 'backup')
      // An agent that starts publishes itself, before it has heard of anyone.
      mesh.publish(agent, [bootChange(agent.boots)])
    }
    mesh.run(random.below(700))
  }
  mesh.calm()
  for (const agent of mesh.agents) {
    mesh.start(agent)
    mesh.publish(agent, [bootChange(1000 + agent.boots)])
  }
  mesh.connectAll()
  mesh.settle(120_000)
}

function randomChanges(mesh: Mesh) {
  return Array.from({ length: 1 + mesh.random.below(6) }, () => {
    const name = `s${mesh.random.below(12)}`
    return mesh.random.chance(0.35)
      ? { key: `svc/shop/${name}`, value: undefined }
      : change(name, 1 + mesh.random.below(5))
  })
}

function bootChange(boots: number) {
  return change('boot', boots)
}

function change(name: string, affinitySeconds: number) {
  const value: ServiceValue = {
    kind: 'service',
    namespace: 'shop',
    name,
    clusterIps: [],
    ports: [],
    headless: true,
    externalName: '',
    affinitySeconds,
    publishNotReady: false
  }
  return { key: keyOf(value), value }
}

function withSeed(seed: number, run: () => void): void {
  try {
    run()
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause)
    throw new Error(
      `seed ${seed} (repeat: SIM_SEED=${seed} SIM_SEEDS=1 npx mocha test/sim/mesh.test.ts): ${message}`,
      { cause }
    )
  }
}
