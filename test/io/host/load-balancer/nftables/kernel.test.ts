import assert from 'node:assert/strict'
import { elementsOf } from '../../../../../src/io/host/load-balancer/nftables/table.ts'
import type { NetlinkSocket } from '../../../../../src/io/host/kernel/netlink.ts'
import { createNftKernel } from '../../../../../src/io/host/load-balancer/nftables/kernel.ts'
import type { Ip } from '../../../../../src/core/model/values.ts'

const OWN_PORT = 77
const NEWGEN = 0x0a0f
const NEWSETELEM = 0x0a0c
const INET = 1
const ELEMENTS = elementsOf({
  vip: '10.96.0.1' as Ip,
  protocol: 'TCP',
  port: 80,
  scheduler: 'rr',
  affinitySeconds: 0,
  realServers: [{ ip: '10.1.0.11' as Ip, port: 8080, weight: 1 }]
})

function message(type: number, port: number, body: Buffer): Buffer {
  const head = Buffer.alloc(16)
  head.writeUInt32LE(16 + body.length, 0)
  head.writeUInt16LE(type, 4)
  head.writeUInt32LE(port, 12)
  return Buffer.concat([head, body])
}

function generation(id: number, port: number): Buffer {
  const body = Buffer.from([0, 0, 0, 0, 8, 0, 1, 0, 0, 0, 0, 0])
  body.writeUInt32BE(id, 8)
  return message(NEWGEN, port, body)
}

function change(table: string, port: number): Buffer {
  const name = Buffer.from(`${table}\0`)
  const attribute = Buffer.from([4 + name.length, 0, 1, 0, ...name])
  return message(NEWSETELEM, port, Buffer.concat([Buffer.from([INET, 0, 0, 0]), attribute]))
}

/** A kernel at a generation, whose events are pushed by hand. `hold`: it does not answer a change until `release`. */
function fake() {
  const state = { id: 5, hold: false, release: () => undefined as void }
  const answers: Buffer[] = []
  const queue: (Buffer | Error)[] = []
  const requests: NetlinkSocket = {
    async send(sent) {
      const isQuestion = Buffer.from(sent).readUInt16LE(4) === 0x0a10
      if (!isQuestion && state.hold) await new Promise<void>((resolve) => (state.release = resolve))
      answers.push(isQuestion ? generation(state.id, OWN_PORT) : message(2, OWN_PORT, Buffer.alloc(20)))
    },
    receive: () => answers.shift(),
    join: () => undefined,
    beStrict: () => undefined,
    close: () => undefined
  }
  const events: NetlinkSocket = {
    send: async () => undefined,
    receive() {
      const next = queue.shift()
      if (next instanceof Error) throw next
      return next
    },
    join: () => undefined,
    beStrict: () => undefined,
    close: () => undefined
  }
  const kernel = createNftKernel('rhizome', { requests, events }, { changeMs: 20, lookMs: 20 })
  kernel.reset()
  /** A transaction of the program with this port. */
  const commit = (port: number, table: string) => {
    state.id = (state.id + 1) >>> 0
    queue.push(change(table, port), generation(state.id, port))
  }
  return { state, queue, kernel, commit }
}

describe('whether only we have changed our table', () => {
  it('is true after our own transactions and those of others for other tables', async () => {
    const { kernel, commit } = fake()
    assert.equal(await kernel.untouched(), true)
    commit(OWN_PORT, 'rhizome')
    commit(99, 'rhizome-filter')
    commit(99, 'kube-proxy')
    assert.equal(await kernel.untouched(), true)
  })

  it('is false from a transaction of another program for our table until the next read', async () => {
    const { kernel, commit } = fake()
    await kernel.untouched()
    commit(99, 'rhizome')
    assert.equal(await kernel.untouched(), false)
    commit(99, 'kube-proxy')
    assert.equal(await kernel.untouched(), false)
    kernel.reset()
    assert.equal(await kernel.untouched(), true)
  })

  it('is false when events were lost, whatever came after them', async () => {
    const { kernel, queue, commit } = fake()
    await kernel.untouched()
    queue.push(new Error('ENOBUFS'))
    commit(99, 'kube-proxy')
    assert.equal(await kernel.untouched(), false)
    kernel.reset()
    assert.equal(await kernel.untouched(), true)
  })

  it('is false where a generation has no event', async () => {
    const { kernel, state } = fake()
    await kernel.untouched()
    state.id++
    assert.equal(await kernel.untouched(), false)
  })

  it('follows the generation over its end', async () => {
    const { kernel, state, commit } = fake()
    state.id = 0xffff_fffe
    await kernel.untouched()
    for (let turn = 0; turn < 4; turn++) commit(99, 'kube-proxy')
    assert.equal(await kernel.untouched(), true)
  })
})

describe('a change by netlink', () => {
  it('is refused before it is sent where it is too large', async () => {
    const { kernel } = fake()
    const many = Array.from({ length: 2001 }, () => ELEMENTS).flat()
    assert.equal(await kernel.change([], many), 'too-large')
    assert.equal(await kernel.change([], ELEMENTS), 'done')
  })

  it('is late while another program holds the lock, and makes what was read meanwhile doubtful once it is done', async () => {
    const { kernel, state } = fake()
    assert.equal(await kernel.untouched(), true)
    state.hold = true
    assert.equal(await kernel.change([], ELEMENTS), 'late')
    assert.equal(await kernel.untouched(), false, 'the look does not wait for the lock')
    kernel.reset()
    state.release()
    state.hold = false
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(await kernel.untouched(), false, 'it came after the read')
    kernel.reset()
    assert.equal(await kernel.untouched(), true)
  })
})
