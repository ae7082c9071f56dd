// Reads the annotation rhizome.io/balance of a Service, for read-object.ts.
// Invariant: a value that is not understood is no policy, and a fault. It never keeps the Service from others. As far as a
// record can carry it, it is published all the same, so that other clusters show why no policy is in force.
import { BALANCE_ANNOTATION, BALANCE_TEXT, parseBalance } from '../model/balance-policy.ts'
import type { ServiceValue } from '../model/values.ts'
import { isFields, type Fault, type Fields } from '../model/field-check.ts'

/** The reading of a Service with its policy. `title`: "Service shop/web", for the fault of the annotation. */
export function withBalance(
  value: ServiceValue,
  object: Fields,
  title: string
): { readonly kind: 'service'; readonly value: ServiceValue; readonly warning?: Fault } {
  const { balance, fault } = readBalance(object)
  return {
    kind: 'service',
    value: balance === undefined ? value : { ...value, balance },
    ...(fault !== undefined && { warning: { ...fault, where: `${title}: ${fault.where}` } })
  }
}

/** The policy of a Service as text, in one line, and the fault of its annotation; neither without the annotation. */
function readBalance(object: Fields): { readonly balance?: string; readonly fault?: Fault } {
  const metadata = isFields(object['metadata']) ? object['metadata'] : {}
  const annotations = isFields(metadata['annotations']) ? metadata['annotations'] : {}
  const text = annotations[BALANCE_ANNOTATION]
  if (text === undefined || text === null) return {}
  const where = `metadata.annotations."${BALANCE_ANNOTATION}"`
  if (typeof text !== 'string')
    return {
      fault: {
        where,
        message: `${BALANCE_ANNOTATION} is not text`,
        fix: `put its value in quotation marks; ${MEANWHILE}`
      }
    }
  const balance = text.replaceAll(/\s+/g, ' ').trim()
  const parsed = parseBalance(balance)
  if (parsed.kind === 'policy') return { balance }
  const { message, fix } = parsed.fault
  return {
    ...(balance !== '' && BALANCE_TEXT.test(balance) && { balance }),
    fault: { where, message, fix: `${fix}; ${MEANWHILE}` }
  }
}

const MEANWHILE = 'until then the service is balanced as without the annotation'
