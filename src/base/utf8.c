/* Owns the one UTF-8 decoder of the program. Stateless. */
#include "base/utf8.h"

/* Ranges of the second byte after each lead byte, from table 3-7 of the Unicode standard. */
static bool second_byte_valid(uint8_t lead, uint8_t second)
{
    switch (lead) {
    case 0xE0:
        return second >= 0xA0 && second <= 0xBF;
    case 0xED:
        return second >= 0x80 && second <= 0x9F;
    case 0xF0:
        return second >= 0x90 && second <= 0xBF;
    case 0xF4:
        return second >= 0x80 && second <= 0x8F;
    default:
        return (second & 0xC0) == 0x80;
    }
}

static size_t sequence_length(uint8_t lead)
{
    if (lead < 0x80) {
        return 1;
    }
    if (lead >= 0xC2 && lead <= 0xDF) {
        return 2;
    }
    if (lead >= 0xE0 && lead <= 0xEF) {
        return 3;
    }
    if (lead >= 0xF0 && lead <= 0xF4) {
        return 4;
    }
    return 0;
}

/* How many bytes from the lead byte on are the beginning of a valid sequence. */
static size_t valid_prefix(const uint8_t *bytes, size_t length, size_t wanted)
{
    size_t count = 1;
    while (count < wanted && count < length) {
        bool valid =
            count == 1 ? second_byte_valid(bytes[0], bytes[1]) : (bytes[count] & 0xC0) == 0x80;
        if (!valid) {
            break;
        }
        count++;
    }
    return count;
}

size_t utf8_decode(const char *data, size_t length, uint32_t *code_point)
{
    if (length == 0) {
        return 0;
    }
    const uint8_t *bytes = (const uint8_t *)data;
    size_t wanted = sequence_length(bytes[0]);
    if (wanted == 1) {
        *code_point = bytes[0];
        return 1;
    }
    if (wanted == 0 || valid_prefix(bytes, length, wanted) < wanted) {
        return 0;
    }
    uint32_t value = bytes[0] & (0xFFu >> (wanted + 1));
    for (size_t i = 1; i < wanted; i++) {
        value = value << 6 | (bytes[i] & 0x3Fu);
    }
    *code_point = value;
    return wanted;
}

size_t utf8_invalid_length(const char *data, size_t length)
{
    const uint8_t *bytes = (const uint8_t *)data;
    size_t wanted = length ? sequence_length(bytes[0]) : 0;
    return wanted <= 1 ? 1 : valid_prefix(bytes, length, wanted);
}

size_t utf8_encode(uint32_t code_point, char out[4])
{
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        out[0] = (char)(0xC0 | code_point >> 6);
        out[1] = (char)(0x80 | (code_point & 0x3F));
        return 2;
    }
    if (code_point >= 0xD800 && code_point <= 0xDFFF) {
        return 0;
    }
    if (code_point < 0x10000) {
        out[0] = (char)(0xE0 | code_point >> 12);
        out[1] = (char)(0x80 | (code_point >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code_point & 0x3F));
        return 3;
    }
    if (code_point > 0x10FFFF) {
        return 0;
    }
    out[0] = (char)(0xF0 | code_point >> 18);
    out[1] = (char)(0x80 | (code_point >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code_point >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code_point & 0x3F));
    return 4;
}

bool utf8_valid(struct text_view text)
{
    size_t position = 0;
    while (position < text.length) {
        uint64_t eight;
        if (text.length - position >= sizeof eight) {
            memcpy(&eight, text.data + position, sizeof eight);
            if ((eight & 0x8080808080808080ull) == 0) {
                position += sizeof eight;
                continue;
            }
        }
        uint32_t code_point;
        size_t step = utf8_decode(text.data + position, text.length - position, &code_point);
        if (step == 0) {
            return false;
        }
        position += step;
    }
    return true;
}

size_t utf8_complete_length(struct text_view text)
{
    const uint8_t *bytes = (const uint8_t *)text.data;
    for (size_t back = 1; back <= 3 && back <= text.length; back++) {
        size_t start = text.length - back;
        size_t wanted = sequence_length(bytes[start]);
        if (wanted > 1) {
            bool open = wanted > back && valid_prefix(bytes + start, back, wanted) == back;
            return open ? start : text.length;
        }
        if (wanted == 1) {
            break;
        }
    }
    return text.length;
}
