import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { eventually } from '../eventually.ts'
import { testProgram } from '../programs.ts'
import { check, isValid, type Operation } from './check.ts'
import { runCluster, type RunOptions } from './cluster.ts'
import { parseMessage, type Body } from './message.ts'

describe('Maelstrom', () => {
  const table: readonly (readonly [string, Omit<RunOptions, 'seed'>])[] = [
    ['broadcast, 5 nodes in a grid', { workload: 'broadcast', nodes: 5, values: 200 }],
    [
      'broadcast, 25 nodes in a grid, 100 ms, partitions',
      { workload: 'broadcast', nodes: 25, values: 100, latencyMs: 200, partitionMs: 400 }
    ],
    [
      'broadcast, 12 nodes, lossy and repeating lines',
      { workload: 'broadcast', nodes: 12, values: 100, latencyMs: 60, loss: 0.1, duplicate: 0.1 }
    ],
    [
      'broadcast, 5 nodes, partitions and kill -9',
      { workload: 'broadcast', nodes: 5, values: 200, loss: 0.02, partitionMs: 800, kills: 6 }
    ],
    ['g-set, 5 nodes, partitions', { workload: 'g-set', nodes: 5, values: 200, partitionMs: 1000 }],
    [
      'g-set, 15 nodes, everything at once',
      {
        workload: 'g-set',
        nodes: 15,
        values: 100,
        latencyMs: 100,
        loss: 0.05,
        duplicate: 0.05,
        partitionMs: 500,
        kills: 6
      }
    ]
  ]
  for (const [title, options] of table) {
    it(`${title}: every acknowledged value is read at every node, and no other`, () => {
      const seed = Number(process.env['MAELSTROM_SEED'] ?? 1)
      const result = runCluster({ ...options, seed })
      assert.ok(isValid(result), `MAELSTROM_SEED=${seed}: ${JSON.stringify(result)}`)
      // A kill may take the answer of a request with it.
      assert.ok(result.acknowledged >= options.values * 0.95, `only ${result.acknowledged} acknowledged`)
    })
  }

  it('is found wanting when a node never says anything', () => {
    const result = runCluster({
      seed: 1,
      workload: 'g-set',
      nodes: 3,
      values: 30,
      mute: (from) => from === 'n1'
    })
    assert.ok(!isValid(result))
    assert.ok(result.lost.some((line) => line.startsWith('n0')))
  })

  it('is found wanting when a value is lost, made up, repeated or withdrawn', () => {
    const add: Operation = { kind: 'add', node: 'a', value: 1, acknowledged: true }
    const read = (values: readonly number[], final = true): Operation => ({
      kind: 'read',
      node: 'a',
      values,
      final
    })
    assert.ok(isValid(check([add, read([1])], ['a'])))
    assert.deepEqual(check([add, read([])], ['a']).lost, ['a: 1'])
    assert.deepEqual(check([add, read([1], false)], ['a']).lost, ['a: 1'])
    assert.deepEqual(check([add, read([1, 2])], ['a']).phantom, ['a: 2'])
    assert.equal(check([add, read([1, 1])], ['a']).duplicated.length, 1)
    assert.deepEqual(check([add, read([1]), read([])], ['a']).withdrawn, ['a: 1'])
    assert.ok(!isValid(check([read([])], ['a'])), 'nothing acknowledged proves nothing')
  })

  describe('as processes', () => {
    const children: ChildProcess[] = []
    afterEach(() => {
      for (const child of children.splice(0)) child.kill('SIGKILL')
    })

    it('answers init, topology, broadcast and read on standard input and output', async () => {
      const names = ['n0', 'n1', 'n2']
      const replies = new Map<number, Body>()
      const inputs = new Map<string, (line: string) => void>()
      for (const name of names) {
        const child = spawn(process.execPath, [testProgram('maelstrom/main')], {
          stdio: ['pipe', 'pipe', 'inherit']
        })
        children.push(child)
        inputs.set(name, (line) => void child.stdin.write(`${line}\n`))
        createInterface({ input: child.stdout }).on('line', (line) => {
          const { dest, body } = parseMessage(line)
          if (dest === 'c1') replies.set(body.in_reply_to ?? 0, body)
          else inputs.get(dest)?.(line)
        })
      }
      let id = 0
      const ask = async (dest: string, body: Body): Promise<Body> => {
        const message = { src: 'c1', dest, body: { ...body, msg_id: ++id } }
        const mine = id
        inputs.get(dest)?.(JSON.stringify(message))
        await eventually(() => replies.has(mine))
        return replies.get(mine) ?? { type: 'none' }
      }
      for (const name of names) {
        assert.equal((await ask(name, { type: 'init', node_id: name, node_ids: names })).type, 'init_ok')
      }
      const line = { n0: ['n1'], n1: ['n0', 'n2'], n2: ['n1'] }
      for (const name of names)
        assert.equal((await ask(name, { type: 'topology', topology: line })).type, 'topology_ok')
      for (const [value, name] of names.entries()) {
        assert.equal((await ask(name, { type: 'broadcast', message: value })).type, 'broadcast_ok')
      }
      assert.equal((await ask('n0', { type: 'broadcast', message: 'text' }))['code'], 10)
      for (const name of names) {
        await eventually(async () => {
          const { type, messages, value } = await ask(name, { type: 'read' })
          assert.equal(type, 'read_ok')
          assert.equal(value, undefined) // Maelstrom takes no field beyond those of the workload
          return Array.isArray(messages) && messages.length === names.length
        })
      }
    })
  })
})
