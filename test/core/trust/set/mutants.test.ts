// P10: each rule is removed on purpose, by a function in its place that finds no fault, or that allows or refuses all; at
// least one scenario must fail. So a rule that no test needs shows itself here.
import assert from 'node:assert/strict'
import type { FormRules } from '../../../../src/core/trust/set/form-rules.ts'
import type { StandingRules } from '../../../../src/core/trust/set/standing-rules.ts'
import { SCENARIOS } from './scenarios.ts'
import { RULES, type Rules } from './world.ts'

const never = () => false
const always = () => true
const noFault = () => undefined

const FORM: { readonly [Rule in keyof FormRules]: FormRules[Rule] } = {
  F1: always,
  F2key: noFault,
  F2signature: noFault,
  F3: noFault,
  F4invite: noFault,
  F4grant: noFault,
  F4decide: noFault,
  F4cert: noFault,
  F5: noFault
}

/** Each rule has a row; a rule that can be wrong in two ways has two replacements. */
const STANDING: { readonly [Rule in keyof StandingRules]: readonly StandingRules[Rule][] } = {
  S1: [never, always],
  S2keeps: [never, always],
  S2voids: [never, always],
  S3limits: [never, (bar) => bar.keepOnly !== undefined],
  S4: [never, (decide, { cert }) => decide.clusterKey === cert.statement.clusterKey],
  S5bars: [never, always],
  S5replaces: [never, always],
  S6order: [() => 0, (left, right) => right.seen - left.seen],
  S6decides: [never, always],
  S7drops: [never, always],
  S8: [always, never],
  E1: [never, always]
}

describe('a mesh without one of the rules (P10)', () => {
  for (const [rule, replaced] of Object.entries(FORM))
    it(`of form, ${rule}, fails a scenario`, () => {
      failsOne({ ...RULES, form: { ...RULES.form, [rule]: replaced } })
    })

  for (const [rule, replacements] of Object.entries(STANDING))
    for (const [at, replaced] of replacements.entries())
      it(`of standing, ${rule} (${at + 1} of ${replacements.length}), fails a scenario`, () => {
        failsOne({ ...RULES, standing: { ...RULES.standing, [rule]: replaced } })
      })
})

function failsOne(rules: Rules): void {
  const failed = SCENARIOS.some(({ run }) => {
    try {
      run(rules)
      return false
    } catch (error) {
      // Another error than a failed assertion would be a rule that no longer computes, and no proof of anything.
      if (!(error instanceof assert.AssertionError)) throw error
      return true
    }
  })
  assert.ok(failed, 'no scenario needs this rule')
}
