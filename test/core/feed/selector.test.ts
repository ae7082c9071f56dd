import assert from 'node:assert/strict'
import { parseFieldSelector, parseLabelSelector, type Selectable } from '../../../src/core/feed/selector.ts'

const WEB: Selectable = { namespace: 'shop', name: 'web', labels: { app: 'web', tier: 'front' } }

describe('selectors of the feed', () => {
  const labels: readonly (readonly [string, boolean])[] = [
    ['', true],
    ['app=web', true],
    ['app==web', true],
    ['app=db', false],
    ['app!=db', true],
    ['app!=web', false],
    ['missing!=x', true],
    ['app', true],
    ['missing', false],
    ['!missing', true],
    ['!app', false],
    ['app in (db, web)', true],
    ['app in (db)', false],
    ['app notin (db)', true],
    ['missing notin (db)', true],
    ['missing in (db)', false],
    ['app=web,tier in (front,back)', true],
    ['app=web,tier in (back)', false]
  ]
  for (const [text, expected] of labels) {
    it(`labels ${JSON.stringify(text)} ${expected ? 'match' : 'do not match'}`, () => {
      const reading = parseLabelSelector(text)
      assert.equal(reading.kind === 'selector' && reading.matches(WEB), expected)
    })
  }

  const fields: readonly (readonly [string, boolean])[] = [
    ['', true],
    ['metadata.name=web', true],
    ['metadata.name=db', false],
    ['metadata.namespace=shop,metadata.name!=db', true],
    ['metadata.namespace!=shop', false]
  ]
  for (const [text, expected] of fields) {
    it(`fields ${JSON.stringify(text)} ${expected ? 'match' : 'do not match'}`, () => {
      const reading = parseFieldSelector(text)
      assert.equal(reading.kind === 'selector' && reading.matches(WEB), expected)
    })
  }

  it('refuses what it does not understand, rather than to list too much', () => {
    for (const text of ['a=b=c', 'a in b', '=x', 'a b'])
      assert.equal(parseLabelSelector(text).kind, 'invalid', text)
    for (const text of ['spec.type=ClusterIP', 'metadata.name']) {
      assert.equal(parseFieldSelector(text).kind, 'invalid', text)
    }
    assert.equal(parseLabelSelector('a,'.repeat(100)).kind, 'invalid')
  })
})
