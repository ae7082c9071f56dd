// `meshctl drain` and `undrain`: what they wait for, and what they say of hosts that have not moved.
import assert from 'node:assert/strict'
import { API_VERSION } from '../../../src/api/answers.ts'
import type { HandOverAnswer, MoveRow } from '../../../src/api/hand-over-answer.ts'
import { meshctl, startFakeMeshd, type FakeMeshd, type Run } from '../fake-meshd.ts'

function host(state: MoveRow['state'], node = 'east-gw', version = '0.1.0'): MoveRow {
  return { cluster: 'east', node, peerId: `id-of-${node}`, version, state }
}

function answer(more: Partial<HandOverAnswer> = {}): HandOverAnswer {
  return {
    apiVersion: API_VERSION,
    state: 'drained',
    cluster: 'west',
    node: 'west-1',
    takers: ['west-2'],
    hosts: [host('moved')],
    moved: true,
    ...more
  }
}

const WAITING = answer({ hosts: [host('waiting')], moved: false })

describe('meshctl drain and undrain', () => {
  let fake: FakeMeshd

  beforeEach(async () => {
    fake = await startFakeMeshd()
    fake.answer('/v1/drain', WAITING)
    fake.answer('/v1/hand-over', answer())
  })
  afterEach(() => fake.stop())

  const cli = (line: string): Promise<Run> => meshctl(['--socket', fake.socket, ...line.split(' ')])
  const asked = () => fake.requests.map(({ method, url }) => `${method} ${url}`)

  it('drain asks until all hosts have moved, and names who carries the traffic', async () => {
    const run = await cli('drain')
    assert.deepEqual(
      [run.code, run.stdout],
      [0, 'Gateway west-1 of cluster west is drained: west-2 carries its traffic.\n']
    )
    assert.deepEqual(asked(), ['POST /v1/drain', 'GET /v1/hand-over'])
    assert.deepEqual(fake.requests[0]?.body, { force: false })
  })

  it('drain ends with code 6 after --timeout, and names host and version of those that have not moved', async () => {
    const late = [host('waiting', 'east-gw', '0.0.9'), host('untold', 'edge-gw')]
    fake.answer('/v1/hand-over', answer({ hosts: late, moved: false }))
    const run = await cli('drain --timeout 1s')
    assert.equal(run.code, 6)
    assert.match(
      run.stderr,
      /After 1s, east east-gw \(0\.0\.9\) have not said that they have moved; east edge-gw/
    )
    assert.match(run.stderr, /fix: .*`meshctl undrain` takes the traffic back/)
  })

  it('drain ends with code 6 when it is taken back, or when the last other gateway ends meanwhile', async () => {
    fake.answer('/v1/hand-over', answer({ state: 'active', hosts: [], moved: false }))
    assert.match((await cli('drain')).stderr, /Meanwhile the drain was taken back/)
    fake.answer('/v1/hand-over', { ...WAITING, takers: [] })
    const run = await cli('drain')
    assert.equal(run.code, 6)
    assert.match(run.stderr, /nothing else can carry the traffic/)
  })

  it('drain --no-wait returns at once, and says that not all have moved', async () => {
    const run = await cli('drain --no-wait')
    assert.equal(run.code, 0)
    assert.match(`${run.stdout}${run.stderr}`, /Not all hosts have moved yet/)
    assert.deepEqual(asked(), ['POST /v1/drain'])
  })

  it('drain --force without another gateway does not wait', async () => {
    fake.answer('/v1/drain', { ...WAITING, takers: [] })
    const run = await cli('drain --force')
    assert.equal(run.code, 0)
    assert.match(run.stdout, /no other gateway lives: it carries the traffic until one does/)
    assert.deepEqual(fake.requests[0]?.body, { force: true })
  })

  it('undrain takes the traffic back', async () => {
    fake.answer('/v1/undrain', answer({ state: 'active', hosts: [], moved: false }))
    const run = await cli('undrain')
    assert.deepEqual([run.code, run.stdout], [0, 'Gateway west-1 of cluster west carries traffic again.\n'])
  })
})
