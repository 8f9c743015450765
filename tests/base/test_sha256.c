/* SHA-256 against the examples of FIPS 180-4 and its test vectors, whole and in random pieces. */
#include "support/test_support.h"

#include "base/sha256.h"

static void assert_digest(const uint8_t digest[SHA256_BYTES], const char *expected)
{
    char text[2 * SHA256_BYTES + 1];
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    }
    assert_string_equal(text, expected);
}

static void test_examples(void **state)
{
    (void)state;
    uint8_t digest[SHA256_BYTES];
    sha256_of("", 0, digest);
    assert_digest(digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_of("abc", 3, digest);
    assert_digest(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const char *two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    sha256_of(two, strlen(two), digest);
    assert_digest(digest, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    static char million[1000000];
    memset(million, 'a', sizeof million);
    sha256_of(million, sizeof million, digest);
    assert_digest(digest, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void test_pieces(void **state)
{
    (void)state;
    uint8_t data[1000];
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)test_random();
    }
    for (size_t length = 0; length < sizeof data; length++) {
        uint8_t whole[SHA256_BYTES];
        uint8_t pieces[SHA256_BYTES];
        struct sha256 hash;
        sha256_of(data, length, whole);
        sha256_init(&hash);
        for (size_t at = 0; at < length;) {
            size_t count = test_random_below(130) + 1;
            count = count < length - at ? count : length - at;
            sha256_update(&hash, data + at, count);
            at += count;
        }
        sha256_finish(&hash, pieces);
        assert_memory_equal(whole, pieces, sizeof whole);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_examples),
    cmocka_unit_test(test_pieces),
};

TEST_MAIN(tests)
