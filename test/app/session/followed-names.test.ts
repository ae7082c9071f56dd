import assert from 'node:assert/strict'
import pino from 'pino'
import { FollowedNames } from '../../../src/app/session/followed-names.ts'
import { Health } from '../../../src/app/observe/health.ts'
import type { Ip } from '../../../src/core/model/values.ts'
import { eventually } from '../../eventually.ts'

describe('followed names', () => {
  let health = new Health({ log: pino({ enabled: false }), now: () => 0 })
  let changes = 0
  let answer: () => Promise<readonly string[]> = async () => []
  let names: FollowedNames | undefined

  beforeEach(() => {
    health = new Health({ log: pino({ enabled: false }), now: () => 0 })
    changes = 0
  })
  afterEach(() => names?.stop())

  const follow = async (name = 'gw.example.com'): Promise<FollowedNames> => {
    names = new FollowedNames([name], {
      health,
      onChange: () => changes++,
      lookup: async () => (await answer()) as readonly Ip[]
    })
    await names.start()
    return names
  }

  it('are known when the start is over, and followed when they change', async () => {
    answer = async () => ['203.0.113.7']
    const found = await follow()
    assert.deepEqual(found.resolved.get('gw.example.com'), ['203.0.113.7'])
    answer = async () => ['203.0.113.8']
    found.refresh()
    await eventually(() => found.resolved.get('gw.example.com')?.[0] === '203.0.113.8')
    assert.equal(changes, 2)
  })

  it('keep what was last known while there is no answer, and say so', async () => {
    answer = async () => ['203.0.113.7']
    const found = await follow()
    answer = () => Promise.reject(Object.assign(new Error('queryA ESERVFAIL'), { code: 'ESERVFAIL' }))
    found.refresh()
    await eventually(() => /203\.0\.113\.7 is kept/.test(health.faults()[0]?.message ?? ''))
    assert.deepEqual(found.resolved.get('gw.example.com'), ['203.0.113.7'])
    assert.equal(health.faults()[0]?.severity, 'warning')
    answer = async () => ['203.0.113.7']
    await eventually(() => health.faults()[0] === undefined) // by itself, with patience
    assert.equal(changes, 1)
  })

  it('do not hold up the start, and come later', async () => {
    const late = Promise.withResolvers<readonly string[]>()
    answer = () => late.promise
    const found = await follow()
    assert.deepEqual(found.resolved.get('gw.example.com'), [])
    late.resolve(['203.0.113.7'])
    await eventually(() => changes === 1)
  })

  it('with the same addresses in another order are no change', async () => {
    answer = async () => ['203.0.113.7', '203.0.113.8']
    const found = await follow()
    answer = async () => ['203.0.113.8', '203.0.113.7']
    let asked = false
    answer = async () => {
      asked = true
      return ['203.0.113.8', '203.0.113.7']
    }
    found.refresh()
    await eventually(() => asked)
    assert.equal(changes, 1)
    assert.deepEqual(found.resolved.get('gw.example.com'), ['203.0.113.7', '203.0.113.8'])
  })

  it('without any address are an error that names setting and name', async () => {
    answer = async () => []
    await follow('gone.example.com')
    const fault = health.faults()[0]
    assert.equal(fault?.severity, 'error')
    assert.match(fault?.message ?? '', /gone\.example\.com in wireguard-address or announce does not resolve/)
  })
})
