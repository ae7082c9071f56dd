import assert from 'node:assert/strict'
import { publicNameWarning } from '../../../src/core/dns/public-names.ts'

describe('the name of a cluster', () => {
  for (const name of [
    'dev',
    'eu',
    'io',
    'app',
    'us',
    'zz',
    'com',
    'cloud',
    'prod',
    'zone',
    'net',
    'berlin',
    'int'
  ])
    it(`${name} is a top-level domain: a warning says what it hides, and offers another`, () => {
      const warning = publicNameWarning(name) ?? ''
      assert.match(warning, new RegExp(`www\\.cluster\\.${name} no longer resolve`))
      assert.match(warning, new RegExp(`${name}-1`))
    })

  for (const name of ['west', 'east', 'eu-1', 'edge-07', 'a1', 'x', 'store-12', 'toString', 'constructor'])
    it(`${name} is none`, () => assert.equal(publicNameWarning(name), undefined))
})
