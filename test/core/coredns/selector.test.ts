import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import {
  parseFieldSelector,
  parseLabelSelector,
  type Selectable
} from '../../../src/core/coredns/selector.ts'

const WEB: Selectable = {
  namespace: 'shop',
  name: 'web',
  labels: {
    app: 'web',
    tier: 'front',
    'kubernetes.io/service-name': 'web',
    weight: '7',
    big: '9007199254740993',
    empty: '',
    in: 'x'
  },
  fields: { 'spec.type': 'ClusterIP', 'spec.clusterIP': '10.1.0.1' }
}

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
    ['app=web,tier in (back)', false],
    ['app in(web)', true],
    ['app in ( web ),tier notin(back)', true],
    ['  app  =  web  , ! missing ', true],
    ['kubernetes.io/service-name in (web,db)', true],
    ['!kubernetes.io/service-name', false],
    ['missing!=', true],
    ['empty=', true],
    ['empty in (,web)', true],
    ['app in (,)', false],
    ['empty', true],
    ['in in (x)', true],
    ['notin', false],
    ['weight>6', true],
    ['weight > 7', false],
    ['weight<8,weight>-1', true],
    ['app>1', false],
    ['missing<5', false],
    ['big>9007199254740992', true],
    ['big<9007199254740993', false],
    ['big<9223372036854775807', true],
    ['weight>+6', true],
    ['weight<00008', true],
    ['in in (in,x),in notin(notin)', true],
    ['\tapp\r\n=\tweb\n', true]
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
    ['metadata.namespace!=shop', false],
    ['metadata.name==web', true],
    ['metadata.name=', false],
    ['metadata.name!=', true],
    ['spec.type=ClusterIP,spec.clusterIP=10.1.0.1', true],
    ['spec.type!=ClusterIP', false],
    ['spec.clusterIP=None', false],
    [String.raw`metadata.name=web\,db`, false],
    [String.raw`metadata.name!=a\=b,metadata.name=web`, true]
  ]
  for (const [text, expected] of fields) {
    it(`fields ${JSON.stringify(text)} ${expected ? 'match' : 'do not match'}`, () => {
      const reading = parseFieldSelector(text, 'services')
      assert.equal(reading.kind === 'selector' && reading.matches(WEB), expected)
    })
  }

  it('refuses what it does not understand, rather than to list too much', () => {
    for (const text of [
      'a=b=c',
      'a in b',
      '=x',
      'a b',
      'a>9223372036854775808',
      'a<-9223372036854775809',
      'a>',
      'a>0x1',
      'a>1.0',
      'a\u00a0=b',
      'a=b\u00a0'
    ])
      assert.equal(parseLabelSelector(text).kind, 'invalid', text)
    assert.equal(parseLabelSelector('a,'.repeat(300) + 'a').kind, 'invalid')
  })

  const refused: readonly (readonly [string, string])[] = [
    ['a in b', "unable to parse requirement: found 'b' expected: '('"],
    ['a=b=c', "found '=', expected: ',' or 'end of string'"],
    ['!a=b', "found '=', expected: ',' or 'end of string'"],
    ['a,', "found '', expected: identifier after ','"],
    ['=x', "found '=', expected: !, identifier, or 'end of string'"],
    ['a b', "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"],
    ['a in (b c)', "unable to parse requirement: found 'c', expected: ',' or ')'"],
    [
      'a in ()',
      "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
    ]
  ]
  for (const [text, reason] of refused) {
    it(`labels ${JSON.stringify(text)} are refused in the words of the API`, () => {
      assert.deepEqual(parseLabelSelector(text), { kind: 'invalid', reason })
    })
  }

  it('knows the fields of each resource, and refuses others in the words of the API', () => {
    const reasonOf = (text: string, resource: 'services' | 'endpointslices' | 'namespaces') => {
      const reading = parseFieldSelector(text, resource)
      return reading.kind === 'invalid' ? reading.reason : 'taken'
    }
    assert.equal(reasonOf('status.phase=Active', 'namespaces'), 'taken')
    assert.equal(reasonOf('status.phase=Active', 'services'), 'field label not supported: status.phase')
    assert.equal(
      reasonOf('spec.type=ClusterIP', 'endpointslices'),
      '"spec.type" is not a known field selector: only "metadata.name", "metadata.namespace"'
    )
    assert.equal(
      reasonOf('metadata.namespace=shop', 'namespaces'),
      'field label not supported: metadata.namespace'
    )
    assert.equal(
      reasonOf('metadata.name', 'services'),
      "invalid selector: 'metadata.name'; can't understand 'metadata.name'"
    )
    assert.equal(reasonOf(String.raw`metadata.name=a\b`, 'services').startsWith('invalid field'), true)
  })

  it('never throws, whatever the text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[ab !=,()<>in]{0,24}$/)), (text) => {
        for (const reading of [parseLabelSelector(text), parseFieldSelector(text, 'services')])
          if (reading.kind === 'selector') assert.equal(typeof reading.matches(WEB), 'boolean')
      }),
      { numRuns: 2000 }
    )
  })
})
