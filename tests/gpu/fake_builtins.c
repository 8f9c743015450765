/* What NVRTC loads beside itself, as far as the loader can tell. */
int fake_builtins(void);

int fake_builtins(void)
{
    return 1;
}
