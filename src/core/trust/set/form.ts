// From bytes to statements whose signatures and rights are checked: the static half of trust. The answer depends on the
// bytes and the roots only, so it is computed once and holds for ever. The one rule of form that needs the set is F5's
// second half, that the sponsor is known (trust-set.ts).
// Invariants
//   1. An item brings every statement that its last one stands on, each after its own parents, and nothing else. So it
//      waits for nothing, and has no place for bytes that no rule looks at.
//   2. Cheap checks come before signatures: a stranger can make this agent run them.
//   3. openItem never throws on any bytes.
import { decodeTrustItem, encodeMessage, wire } from '../../wire/messages.ts'
import { decodeBody, refusal } from './codec.ts'
import { FORM_RULES } from './form-rules.ts'
import { ItemChain } from './item-chain.ts'
import { type FormContext, type Signed, signatureRefusal } from './signatures.ts'
import type { Refusal } from './statement.ts'

/** A checked item: its statements in the order in which they came, the one that it is about last. */
export interface OpenedItem {
  readonly kind: 'item'
  readonly statements: readonly Signed[]
}

/** Bytes of an encoded TrustItem: two seats, invite, certificate, admission, and a Void or Bar at its bound. */
const ITEM_BYTES_MAX = 64 * 1024
/** Root seat, child seat, invite, cluster certificate, admission, and a Bar of this cluster. */
const STATEMENTS_MAX = 6

/** Decodes and checks an item. The refusal names the first fault. */
export function openItem(context: FormContext, bytes: Uint8Array): OpenedItem | Refusal {
  const rules = context.rules ?? FORM_RULES
  if (bytes.length > ITEM_BYTES_MAX)
    return refusal('F1', 'item', '', `${bytes.length} bytes are more than ${ITEM_BYTES_MAX}`)
  const message = decodeTrustItem(bytes)
  if (message === undefined) return refusal('F1', 'item', '', 'the item is not decodable')
  if (!rules.F1(bytes, encodeMessage<object>(wire.TrustItem, message)))
    return refusal(
      'F1',
      'item',
      '',
      'the item is not canonical, or holds fields that this version does not know'
    )
  if (message.statements.length === 0 || message.statements.length > STATEMENTS_MAX)
    return refusal('F1', 'item', 'statements', `an item has 1 to ${STATEMENTS_MAX} statements`)
  const opened: Signed[] = []
  const chain = new ItemChain()
  for (const one of message.statements) {
    const statement = decodeBody(context.crypto, rules, one.body)
    if (statement.kind === 'refused') return statement
    const missing = chain.take(statement, rules)
    if (missing !== undefined) return missing
    opened.push({ statement, envelope: encodeMessage<object>(wire.Statement, one) })
  }
  if (chain.unused())
    return refusal(
      'parents',
      'item',
      'statements',
      'a statement stands in the item that the last one does not need'
    )
  for (const [at, one] of message.statements.entries()) {
    const signed = opened[at]
    if (signed === undefined) continue
    const fault = signatureRefusal(context, rules, { message: one, signed, chain })
    if (fault !== undefined) return fault
  }
  return { kind: 'item', statements: opened }
}

/** The bytes of an item, from envelopes in order. */
export function encodeItem(envelopes: readonly Uint8Array[]): Uint8Array {
  // A field of an encoded message is its tag (field 1, length-delimited), its length and its bytes: the same as the
  // encoder writes, without decoding each envelope first.
  const heads = envelopes.map(({ length }) => Uint8Array.of(0x0a, ...varint(length)))
  const item = new Uint8Array(
    envelopes.reduce((sum, { length }, at) => sum + length + (heads[at]?.length ?? 0), 0)
  )
  let end = 0
  for (const [at, envelope] of envelopes.entries()) {
    for (const part of [heads[at] ?? new Uint8Array(0), envelope]) {
      item.set(part, end)
      end += part.length
    }
  }
  return item
}

/**
 * A length as the wire format writes it: seven bits a byte, the lowest first (Protocol Buffers, "Base 128 Varints").
 */
function varint(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >>> 7)]
}
