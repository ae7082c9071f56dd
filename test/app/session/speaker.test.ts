import assert from 'node:assert/strict'
import { SPEAKER_TERM_MIN, STANDBY_TERM, standsBy, termFloor } from '../../../src/app/session/speaker.ts'
import type { Origin } from '../../../src/core/model/values.ts'
import type { AgentView } from '../../../src/core/view/view.ts'

const agent = (id: string, term?: number): AgentView => ({
  origin: id as Origin,
  agent: {} as AgentView['agent'],
  ...(term !== undefined && { term })
})
const standbys = (...agents: readonly AgentView[]): string =>
  agents
    .filter(({ origin }) => standsBy(origin, agents))
    .map(({ origin }) => origin)
    .join()

describe('who stands by', () => {
  const rows: readonly (readonly [what: string, agents: readonly AgentView[], expected: string])[] = [
    ['nobody where nobody has spoken yet', [agent('a'), agent('b')], ''],
    ['nobody beside a lone agent', [agent('a', 2)], ''],
    ['the other of two', [agent('a', 2), agent('b')], 'b'],
    ['the same when it has a copy', [agent('a', 2), agent('b', STANDBY_TERM)], 'b'],
    ['the one that spoke before', [agent('a', 2), agent('b', 3)], 'a'],
    ['one of many', [agent('a'), agent('b', 7), agent('c', STANDBY_TERM), agent('d')], 'a']
  ]
  for (const [what, agents, expected] of rows) {
    it(what, () => {
      assert.equal(standbys(...agents), expected)
      assert.equal(standbys(...agents.toReversed()), expected, 'whatever the order')
    })
  }
})

describe('the least term to speak with', () => {
  it('is above that of a copy, and above all that others of the cluster have said', () => {
    assert.equal(termFloor('a' as Origin, [agent('a', 9)]), SPEAKER_TERM_MIN)
    assert.equal(termFloor('a' as Origin, [agent('a', 9), agent('b', STANDBY_TERM)]), SPEAKER_TERM_MIN)
    assert.equal(termFloor('a' as Origin, [agent('a', 2), agent('b', 5), agent('c', 3)]), 6)
  })
})
